package tuple

import (
	"iter"
	"sync/atomic"

	"github.com/ephemera-go/ephemera/internal/held"
)

// watch records of which tuples a use has ended since the watch began.
type watch struct{ ended map[Tuple]*atomic.Bool }

// watches is the list of the present watches. A change replaces the list.
type watches = atomic.Pointer[[]*watch]

func (p *Pool) watch(tuples iter.Seq[Tuple]) (ended func(Tuple) bool, stop func()) {
	st, w := p.ready(), &watch{map[Tuple]*atomic.Bool{}}
	for t := range tuples {
		w.ended[t] = new(atomic.Bool)
	}
	st.changeWatches(func(list []*watch) []*watch { return append(list, w) })
	ended = func(t Tuple) bool {
		end := w.ended[t]
		return end != nil && end.Load()
	}
	stop = func() {
		st.changeWatches(func(list []*watch) (others []*watch) {
			for _, other := range list {
				if other != w {
					others = append(others, other)
				}
			}
			return others
		})
	}
	return ended, stop
}

func (st *state) changeWatches(change func(copied []*watch) []*watch) {
	for {
		old := st.watches.Load()
		var list []*watch
		if old != nil {
			list = append(list, *old...)
		}
		list = change(list)
		next := &list
		if len(list) == 0 {
			next = nil // so that retire has nothing to look up
		}
		if st.watches.CompareAndSwap(old, next) {
			return
		}
	}
}

// ends tells the watches that the use of a tuple is about to end. It must come before the end, so that no watcher takes
// the next use for the one before.
func (st *state) ends(list []*watch, key held.Key, t *Tuple) {
	u := Tuple{t.src, key.Addr(), t.srcPort, key.Port()}
	if from := st.shards[0].plan.Load().Sources(key); from.Any() {
		u.src = from.At(0)
	}
	for _, w := range list {
		if ended := w.ended[u]; ended != nil {
			ended.Store(true)
		}
	}
}
