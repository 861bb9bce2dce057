package tuple

import (
	"cmp"
	"container/heap"
	"slices"
)

// Top returns the k destinations with the most tuples in use or retired, in descending order. If two have as many, the
// lower address comes first. It goes through Destinations once and keeps k of them.
func (p *Pool) Top(k int) []Usage {
	if k <= 0 {
		return nil
	}
	var top least
	for u := range p.Destinations() {
		switch {
		case len(top) < k:
			heap.Push(&top, u)
		case order(u, top[0]) < 0:
			top[0] = u
			heap.Fix(&top, 0)
		}
	}
	slices.SortFunc(top, order)
	return top
}

// order compares as Top sorts.
func order(u, v Usage) int {
	return cmp.Or(cmp.Compare(v.InUse+v.Retired, u.InUse+u.Retired), u.Dst.Compare(v.Dst))
}

// least is a heap. Its root is the last in the order of Top.
type least []Usage

func (h least) Len() int           { return len(h) }
func (h least) Less(i, j int) bool { return order(h[i], h[j]) > 0 }
func (h least) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *least) Push(u any)        { *h = append(*h, u.(Usage)) }

func (h *least) Pop() any {
	last := len(*h) - 1
	u := (*h)[last]
	*h = (*h)[:last]
	return u
}
