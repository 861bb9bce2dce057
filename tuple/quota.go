package tuple

import (
	"container/heap"
	"math"
	"sync"
)

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
	owners   shrinking[string, *owner]
	ready    queue[*owner] // those who wait and are below MaxPerOwner
	crowd    crowd         // all who wait for the quotas
	awake    bool          // whether that is anybody, as the shards know it
}

// owner is somebody who holds tuples, if there is a MaxPerOwner, or waits for a quota. That of requests without an
// owner waits only.
type owner struct {
	name    string
	quota   *quota
	held    int  // in use or retired, and
	retired int  // retired
	line    line // who waits for either quota
	at      int  // in ready; negative if it is not
}

func (o *owner) arrival() uint64 { return o.line.head().arrival() }
func (o *owner) position() *int  { return &o.at }

// owned names a tuple that has an owner.
type owned struct {
	key  dstKey
	hold hold
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
	o := q.owners.get(name)
	if o == nil {
		o = &owner{name: name, quota: q, at: -1}
		o.line = line{crowd: &q.crowd, owner: o}
		q.owners.put(name, o)
	}
	return o
}

// stops says which quota keeps an owner from holding one more tuple; "" if none does.
func (q *quota) stops(owner string) string {
	switch o := q.owners.get(owner); {
	case o != nil && o.held >= q.perOwner:
		return "MaxPerOwner"
	case q.held >= q.max:
		return "MaxTuples"
	}
	return ""
}

// place puts o, of whom something has changed, where it belongs.
func (q *quota) place(o *owner) {
	switch ready, is := !o.line.isEmpty() && o.held < q.perOwner, o.at >= 0; {
	case ready && is:
		heap.Fix(&q.ready, o.at)
	case ready:
		heap.Push(&q.ready, o)
	case is:
		heap.Remove(&q.ready, o.at)
		o.at = -1
	}
	if o.line.isEmpty() && o.held == 0 {
		q.owners.delete(o.name)
	}
	if awake := q.crowd.n > 0; awake != q.awake {
		q.awake = awake
		for i := range q.shards {
			q.shards[i].setWake()
			q.shards[i].stopWake()
		}
	}
}

// took counts a tuple that has come to be held.
func (q *quota) took(sh *shard, a *ask, h hold) {
	q.held++
	if q.perOwner < math.MaxInt && a.owner != "" {
		o := q.owner(a.owner)
		o.held++
		sh.owned.put(owned{a.key, h}, o)
		q.place(o)
	}
}

// retired counts a tuple that is no longer in use, and still held.
func (q *quota) retired(sh *shard, key dstKey, h hold) {
	q.rest++
	if o := sh.owned.get(owned{key, h}); o != nil {
		o.retired++
	}
}

// freed counts a tuple that is no longer held. It was in use or retired.
func (q *quota) freed(sh *shard, key dstKey, h hold, was State) {
	retired := 0
	if was == Retired {
		retired = 1
	}
	q.held--
	q.rest -= retired
	if o := sh.owned.get(owned{key, h}); o != nil {
		sh.owned.delete(owned{key, h})
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
	return q.ready[0].line.head()
}

// serveNext serves the first of those whom the quotas need not stop, or has it and all of its flow wait for their
// destination. It fails if there is nobody.
func (q *quota) serveNext() bool {
	f := q.next()
	if f == nil {
		return false
	}
	sh, a := f.sh, &f.first().ask
	pl := sh.plan.Load()
	if pl.refusal(a) == nil { // else the sources have changed, and may change again
		if h, ok := sh.acquireFor(a, pl); ok {
			f.grant(h, pl)
			return true
		}
	}
	f.moveTo(sh.large(a, pl).line())
	return true
}

// serve serves all whom the quotas need not stop.
func (q *quota) serve() {
	for q.serveNext() {
	}
}

// serveBoth gives those who wait for the quotas, or for the destination towards which something was freed, what there
// is for them, first come, first served.
func (sh *shard) serveBoth(key dstKey, pl *plan) {
	e := sh.entries(key)
	hash := key.hash(e.seed)
	for {
		at, _ := e.find(key, hash)
		d := at.destination()
		if d != nil {
			sh.serve(d, pl)
		}
		if pl.quota == nil || !pl.quota.serveNext() {
			if d != nil {
				e.reduce(at, d, pl)
			}
			return
		}
	}
}

// stops says which quota keeps a from being served, whatever is free, and what it is; "" if none does.
func (sh *shard) stops(a *ask, pl *plan) (which string, most int) {
	if q := pl.quota; q != nil {
		switch which := q.stops(a.owner); which {
		case "MaxPerOwner":
			return which, q.perOwner
		case "MaxTuples":
			return which, q.max
		}
	}
	if pl.maxPerDst > 0 {
		if at, found := sh.entries(a.key).find(a.key, a.hash); found {
			if inUse, retired, _ := at.counts(); !pl.mayHoldMore(inUse + retired) {
				return "MaxPerDestination", pl.maxPerDst
			}
		}
	}
	return "", 0
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
