package tuple

import (
	"math"
	"sync"

	"github.com/ephemera-go/ephemera/internal/held"
	"github.com/ephemera-go/ephemera/internal/shrink"
	"github.com/ephemera-go/ephemera/internal/waiting"
)

// Quota names one of the quotas of a Pool. The zero Quota is none of them.
type Quota uint8

// The quotas.
const (
	noQuota             Quota = iota
	QuotaTuples               // Pool.MaxTuples
	QuotaPerDestination       // Pool.MaxPerDestination
	QuotaPerOwner             // Pool.MaxPerOwner
)

// String returns the name of the field of Pool, such as "MaxTuples".
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

// quota is MaxTuples and MaxPerOwner. They concern all destinations, so a Pool that has one of them has a single lock,
// mu, in place of those of its shards. So a tuple goes from a release to a waiter in one step, and there is no order of
// locks to keep.
//
// A waiter may wait for the pool's quota, for the owner's quota, or for the destination. Each flow waits for one that
// is used up: in its owner's line for either quota, else in its destination's line. When one of them is no longer used
// up, the flows in line for it are tried in order of arrival, until it is used up again or no flow is left. Each is
// served, or moves to the line of what stops it now. Three things follow:
//
//   - No flow is forgotten, because what it waits for is used up.
//   - No newcomer overtakes a waiter, because it finds used up what that waits for.
//   - The serving ends, because a flow that moves to its destination's line stays there while the quotas last.
//
// To serve or to move one flow takes O(log n). Most releases serve one and move none. One release may move all of them,
// but each must move back before it can move again.
type quota struct {
	mu           sync.Mutex
	shards       *[shards]shard
	max          int // MaxTuples, or MaxInt
	perOwner     int // MaxPerOwner, or MaxInt
	held         int // tuples in use or retired
	retiredCount int // retired tuples
	owners       shrink.Map[string, *owner]
	ready        shrink.Heap[*owner] // the owners that wait and are below MaxPerOwner
	room         room                // all who wait for the quotas
	awake        bool                // whether anybody does, as the shards know it
}

// owner is an owner who holds tuples, if there is a MaxPerOwner, or who waits for a quota. The owner "" only waits.
type owner struct {
	name    string
	held    int   // tuples in use or retired
	retired int   // retired tuples
	line    *line // who waits for either quota
	at      int   // its index in ready; negative if it is not there
}

// Before orders the owners by the arrival of their first waiters.
func (o *owner) Before(other *owner) bool { return o.line.Head().Before(other.line.Head()) }

// Place returns where ready stores the index of the owner.
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

// owner returns the owner of this name, a new one if there is none. The caller must be about to make it hold something
// or wait.
func (q *quota) owner(name string) *owner {
	o := q.owners.Get(name)
	if o == nil {
		o = &owner{name: name, at: -1}
		o.line = waiting.NewLine(&q.room, func() { q.place(o) })
		q.owners.Put(name, o)
	}
	return o
}

// stops returns the quota that keeps an owner from holding one more tuple, noQuota if none does.
func (q *quota) stops(owner string) Quota {
	switch o := q.owners.Get(owner); {
	case o != nil && o.held >= q.perOwner:
		return QuotaPerOwner
	case q.held >= q.max:
		return QuotaTuples
	}
	return noQuota
}

// place adds o to ready, moves it there or removes it, after o has changed. It forgets an owner without tuples and
// waiters.
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

// took counts a tuple that was free.
func (q *quota) took(sh *shard, a *ask, h held.Hold) {
	q.held++
	if q.perOwner < math.MaxInt && a.Owner != "" {
		o := q.owner(a.Owner)
		o.held++
		sh.owned.Put(ownedTuple{a.Key, h}, o)
		q.place(o)
	}
}

// retired counts a tuple that was in use and is retired now.
func (q *quota) retired(sh *shard, key held.Key, h held.Hold) {
	q.retiredCount++
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
	q.retiredCount -= retired
	if o := sh.owned.Get(ownedTuple{key, h}); o != nil {
		sh.owned.Delete(ownedTuple{key, h})
		o.held--
		o.retired -= retired
		q.place(o)
	}
}

// next returns the flow that came first among those that wait for the quotas and that the quotas no longer stop. It
// returns nil if there is none.
func (q *quota) next() *flow {
	if q.held >= q.max || len(q.ready) == 0 {
		return nil
	}
	return q.ready[0].line.Head()
}

// serveNext serves the first waiter of next, or moves the flow to the line of its destination. It returns false if
// there is no next.
func (q *quota) serveNext() bool {
	f := q.next()
	if f == nil {
		return false
	}
	w := f.First()
	sh, a := w.Ask.sh, &w.Ask.ask
	pl := sh.plan.Load()
	if pl.refusal(a, a.dst()) == nil { // else the sources have changed: the flow waits until they change again
		if h, ok := sh.acquire(sh.held.Find(a.Key, a.Hash), a, pl); ok {
			grant(f, h, pl)
			return true
		}
	}
	f.MoveTo(sh.line(a.Key))
	return true
}

// serve serves all waiters that the quotas no longer stop.
func (q *quota) serve() {
	for q.serveNext() {
	}
}

// settle frees what has cooled down in any shard.
func (q *quota) settle() {
	t := now()
	for i := range q.shards {
		if sh := &q.shards[i]; sh.due.Load() <= t {
			sh.settle(sh.plan.Load())
		}
	}
}
