package tuple

import (
	"math"
	"sync"

	"github.com/ephemera-go/ephemera/internal/held"
	"github.com/ephemera-go/ephemera/internal/shrink"
	"github.com/ephemera-go/ephemera/internal/waiting"
)

// Quota is one of the quotas of a Pool.
type Quota uint8

// The quotas. The zero Quota is none of them.
const (
	noQuota Quota = iota
	QuotaTuples
	QuotaPerDestination
	QuotaPerOwner
)

// String returns the name of the field of Pool: "MaxTuples".
func (q Quota) String() string {
	switch q {
	case QuotaTuples:
		return "MaxTuples"
	case QuotaPerDestination:
		return "MaxPerDestination"
	case QuotaPerOwner:
		return "MaxPerOwner"
	}
	return "no quota"
}

// quota is MaxTuples and MaxPerOwner. They tie all destinations together, so a Pool that has one of them has one
// lock, mu, in place of those of its shards. So nothing happens between the release of a tuple and its being given to
// somebody else, there is no order of locks to keep, and nobody who waits needs to hold a part of what it waits for.
//
// What somebody waits for may be the pool's quota, the owner's, or the destination. Each flow waits for one that is
// used up: in its owner's line for either quota, in its destination's line otherwise. Whenever one of them is no
// longer used up, those in line for it are tried in order of arrival, until it is used up again or nobody is left:
// each is served, or moves to the line of what stops it now, which is used up. Hence nobody is forgotten; a newcomer
// finds used up what anybody waits for, so none barges in; and it ends, because a flow that moves to its
// destination's line stays there while the quotas last.
//
// One flow is served or moves in O(log n). Most releases serve one and move none; how many move by one release has no
// better bound than their number, but each must move back before it can move again.
type quota struct {
	mu       sync.Mutex
	shards   *[shards]shard
	max      int // MaxTuples, and
	perOwner int // MaxPerOwner, or MaxInt
	held     int // in use or retired, and
	rest     int // retired
	owners   shrink.Map[string, *owner]
	ready    shrink.Heap[*owner] // those who wait and are below MaxPerOwner
	room     room                // all who wait for the quotas
	awake    bool                // whether that is anybody, as the shards know it
}

// owner is somebody who holds tuples, if there is a MaxPerOwner, or waits for a quota. That of requests without an
// owner waits only.
type owner struct {
	name    string
	held    int   // in use or retired, and
	retired int   // retired
	line    *line // who waits for either quota
	at      int   // in ready; negative if it is not
}

// Before orders the owners by who of them came first.
func (o *owner) Before(other *owner) bool { return o.line.Head().Before(other.line.Head()) }

// Place is where ready notes the index of the owner.
func (o *owner) Place() *int { return &o.at }

// ownedTuple names a tuple that has an owner.
type ownedTuple struct {
	key  held.Key
	hold held.Hold
}

func newQuota(p *Pool) *quota {
	if p.MaxTuples == 0 && p.MaxPerOwner == 0 {
		return nil
	}
	q := &quota{max: p.MaxTuples, perOwner: p.MaxPerOwner}
	if q.max == 0 {
		q.max = math.MaxInt
	}
	if q.perOwner == 0 {
		q.perOwner = math.MaxInt
	}
	return q
}

// owner returns the owner of this name, who must be about to hold something or to wait.
func (q *quota) owner(name string) *owner {
	o := q.owners.Get(name)
	if o == nil {
		o = &owner{name: name, at: -1}
		o.line = waiting.NewLine(&q.room, func() { q.place(o) })
		q.owners.Put(name, o)
	}
	return o
}

// stops says which quota keeps an owner from holding one more tuple, noQuota if none does.
func (q *quota) stops(owner string) Quota {
	switch o := q.owners.Get(owner); {
	case o != nil && o.held >= q.perOwner:
		return QuotaPerOwner
	case q.held >= q.max:
		return QuotaTuples
	}
	return noQuota
}

// place puts o, of whom something has changed, where it belongs.
func (q *quota) place(o *owner) {
	switch ready, is := !o.line.IsEmpty() && o.held < q.perOwner, o.at >= 0; {
	case ready && is:
		q.ready.Moved(o)
	case ready:
		q.ready.Add(o)
	case is:
		q.ready.Remove(o)
		o.at = -1
	}
	if o.line.IsEmpty() && o.held == 0 {
		q.owners.Delete(o.name)
	}
	if awake := q.room.Len() > 0; awake != q.awake {
		q.awake = awake
		for i := range q.shards {
			q.shards[i].setWake()
			q.shards[i].stopWake()
		}
	}
}

// took counts a tuple that has come to be held.
func (q *quota) took(sh *shard, a *ask, h held.Hold) {
	q.held++
	if q.perOwner < math.MaxInt && a.Owner != "" {
		o := q.owner(a.Owner)
		o.held++
		sh.owned.Put(ownedTuple{a.Key, h}, o)
		q.place(o)
	}
}

// retired counts a tuple that is no longer in use, and still held.
func (q *quota) retired(sh *shard, key held.Key, h held.Hold) {
	q.rest++
	if o := sh.owned.Get(ownedTuple{key, h}); o != nil {
		o.retired++
	}
}

// freed counts a tuple that is no longer held. It was in use or retired.
func (q *quota) freed(sh *shard, key held.Key, h held.Hold, was held.State) {
	retired := 0
	if was == held.Retired {
		retired = 1
	}
	q.held--
	q.rest -= retired
	if o := sh.owned.Get(ownedTuple{key, h}); o != nil {
		sh.owned.Delete(ownedTuple{key, h})
		o.held--
		o.retired -= retired
		q.place(o)
	}
}

// next returns who came first of those whom the quotas need not stop; nil if there is nobody.
func (q *quota) next() *flow {
	if q.held >= q.max || len(q.ready) == 0 {
		return nil
	}
	return q.ready[0].line.Head()
}

// serveNext serves the first of those whom the quotas need not stop, or has it and all of its flow wait for their
// destination. It fails if there is nobody.
func (q *quota) serveNext() bool {
	f := q.next()
	if f == nil {
		return false
	}
	w := f.First()
	sh, a := w.Ask.sh, &w.Ask.ask
	pl := sh.plan.Load()
	if pl.refusal(a, a.dst()) == nil { // else the sources have changed, and may change again
		if h, ok := sh.acquire(sh.held.Find(a.Key, a.Hash), a, pl); ok {
			grant(f, h, pl)
			return true
		}
	}
	f.MoveTo(sh.line(a.Key))
	return true
}

// serve serves all whom the quotas need not stop.
func (q *quota) serve() {
	for q.serveNext() {
	}
}

// settle frees what has cooled down anywhere.
func (q *quota) settle() {
	t := now()
	for i := range q.shards {
		if sh := &q.shards[i]; sh.due.Load() <= t {
			sh.settle(sh.plan.Load())
		}
	}
}
