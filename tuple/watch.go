package tuple

import (
	"iter"
	"sync/atomic"
)

// Watch tells which of some tuples have come to the end of a use since it began: whether a tuple that is in use now,
// and was then, is so for the same reason, which State cannot tell. It is for those who compare a Pool with something
// that they cannot look at in the same instant. It is safe for concurrent use, and must not be copied.
type Watch struct {
	state *state
	ended map[Tuple]*atomic.Bool
}

// watches are those that go on. The list is not changed, but replaced.
type watches = atomic.Pointer[[]*Watch]

// Watch begins to watch the given tuples, which are named as All names them. Whoever begins ends it with Stop: until
// then each Release and Retire of the Pool looks into it.
func (p *Pool) Watch(tuples iter.Seq[Tuple]) *Watch {
	w := &Watch{p.ready(), map[Tuple]*atomic.Bool{}}
	for t := range tuples {
		w.ended[t] = new(atomic.Bool)
	}
	w.state.changeWatches(func(list []*Watch) []*Watch { return append(list, w) })
	return w
}

// Ended reports whether a use of t ended since the Watch began, or is just about to. It knows only of the tuples that
// it watches.
func (w *Watch) Ended(t Tuple) bool {
	ended := w.ended[t]
	return ended != nil && ended.Load()
}

// Stop ends the Watch, which keeps what it knows.
func (w *Watch) Stop() {
	w.state.changeWatches(func(list []*Watch) (others []*Watch) {
		for _, other := range list {
			if other != w {
				others = append(others, other)
			}
		}
		return others
	})
}

func (st *state) changeWatches(change func(copied []*Watch) []*Watch) {
	for {
		old := st.watches.Load()
		var list []*Watch
		if old != nil {
			list = append(list, *old...)
		}
		list = change(list)
		next := &list
		if len(list) == 0 {
			next = nil // nobody need look into it
		}
		if st.watches.CompareAndSwap(old, next) {
			return
		}
	}
}

// ends tells those who watch that the use of a tuple is about to end: before it does, so that nobody sees the next
// use of it and takes it for the one before.
func (st *state) ends(list []*Watch, key dstKey, t *Tuple) {
	u := Tuple{t.src, key.addr(), t.srcPort, key.port()}
	if from := st.shards[0].plan.Load().sources(key); from.any {
		u.src = from.at(0)
	}
	for _, w := range list {
		if ended := w.ended[u]; ended != nil {
			ended.Store(true)
		}
	}
}
