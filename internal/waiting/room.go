package waiting

import "github.com/ephemera-go/ephemera/internal/shrink"

// Room is the waiters of some lines that a bound counts together, by owner. The zero Room is empty. It must not be
// copied after its first use.
type Room[C comparable, A, O any] struct {
	n     int
	of    shrink.Map[string, int] // how many each owner has
	flows shrink.Map[*Flow[C, A, O], struct{}]
	with  []int // with[i] is how many owners have i
	most  int   // no owner has more
}

// Len returns how many wait.
func (r *Room[C, A, O]) Len() int { return r.n }

// add counts more waiters of an owner, or fewer.
func (r *Room[C, A, O]) add(owner string, count int) {
	r.n += count
	if r.n == 0 {
		*r = Room[C, A, O]{}
		return
	}
	was := r.of.Get(owner)
	is := was + count
	if was > 0 {
		r.with[was]--
	}
	if is == 0 {
		r.of.Delete(owner)
		return
	}
	r.of.Put(owner, is)
	r.most = max(r.most, is)
	for len(r.with) <= r.most {
		r.with = append(r.with, 0)
	}
	r.with[is]++
}

// Displaced returns the waiter that makes room for one more of an owner when all places are used: the newest of the
// owners who have the most (longest queue drop), if these have at least two more than this owner. Else it is nil. So a
// place goes where it makes the shares more even, and an owner who floods the line keeps nobody else out of it. The
// Room must not be empty.
func (r *Room[C, A, O]) Displaced(owner string) *Waiter[C, A, O] {
	for r.with[r.most] == 0 {
		r.most--
	}
	if r.most < r.of.Get(owner)+2 {
		return nil
	}
	var newest *Waiter[C, A, O]
	for f := range r.flows.All() {
		if w := f.last(); r.of.Get(f.owner) == r.most && (newest == nil || w.arrival > newest.arrival) {
			newest = w
		}
	}
	return newest
}
