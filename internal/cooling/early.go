package cooling

import "math"

// NextOf returns when the time of the first item of key comes. It returns Never if there is no such item, or none has
// a time. It looks through the items of key, or through all if the Queue is not Ordered, so the caller should remember
// the answer.
func (q *Queue[K, C]) NextOf(key K) int64 {
	next := Never
	if q.Ordered {
		for i := q.lines.first(key); i != 0; i = q.lines.links[i].newer {
			next = min(next, q.slab.nodes[i].until)
		}
		return next
	}
	for id := range q.schedule.series {
		for i := q.schedule.series[id].first; i != 0; i = q.slab.nodes[i].next {
			if n := &q.slab.nodes[i]; n.key == key {
				next = min(next, n.until)
				break
			}
		}
	}
	return next
}

// RemoveIf removes the items of key that drop is true for, except those that are Firm. It tells drop when the item
// came. For an item without a time, began is [math.MinInt64]. If Add cut the time off at the instant before Never,
// began is too early. RemoveIf looks through the same items as NextOf.
func (q *Queue[K, C]) RemoveIf(key K, drop func(hold uint64, began int64) bool) {
	if q.Ordered {
		for i := q.lines.first(key); i != 0; {
			newer := q.lines.links[i].newer
			if q.kind(i) != Firm && drop(q.slab.nodes[i].hold, q.began(i)) {
				q.remove(i, q.lines.links[i].prev)
			}
			i = newer
		}
		q.shrink()
		return
	}
	for id := range q.schedule.series {
		if q.schedule.series[id].kind == Firm {
			continue
		}
		prev := uint32(0)
		for i := q.schedule.series[id].first; i != 0; {
			n := &q.slab.nodes[i]
			next := n.next
			if n.key == key && drop(n.hold, q.began(i)) {
				q.remove(i, prev)
			} else {
				prev = i
			}
			i = next
		}
	}
	q.shrink()
}

func (q *Queue[K, C]) kind(i uint32) Kind { return q.schedule.series[q.slab.nodes[i].series].kind }

// began returns when node i came.
func (q *Queue[K, C]) began(i uint32) int64 {
	n := &q.slab.nodes[i]
	if n.until == Never {
		return math.MinInt64
	}
	return n.until - int64(q.schedule.series[n.series].delay)
}

// TakeOldest removes the item of key that has been here longest, among those that fits is true for and that are not
// Taken. It returns false if there is none, or the Queue is not Ordered.
//
// It remembers what did not fit, and does not ask again for the same class until Renumber. So fits must depend only on
// the key, the class and the hold. TakeOldest costs O(1), amortised, with up to 64 classes for a key. With more, it may
// look through all items of the key.
func (q *Queue[K, C]) TakeOldest(key K, class C, fits func(hold uint64) bool) (item Item[K], ok bool) {
	l := &q.lines
	id := l.byKey[key]
	if id == 0 {
		return item, false
	}
	last := l.passed[id].of(class)
	i := l.all[id].oldest
	if last != 0 {
		i = l.links[last].newer
	}
	begin := i
	for i != 0 && (q.kind(i) == Taken || !fits(q.slab.nodes[i].hold)) {
		last, i = i, l.links[i].newer
	}
	if i != begin {
		l.note(id, class, last)
	}
	if i == 0 {
		return item, false
	}
	item = q.item(i)
	q.remove(i, l.links[i].prev)
	q.shrink()
	return item, true
}

// Renumber gives each item the hold that f returns for it. What did not fit may fit now: TakeOldest looks again.
func (q *Queue[K, C]) Renumber(f func(key K, hold uint64) uint64) {
	for id := range q.schedule.series {
		for i := q.schedule.series[id].first; i != 0; i = q.slab.nodes[i].next {
			n := &q.slab.nodes[i]
			n.hold = f(n.key, n.hold)
		}
	}
	for id := range q.lines.passed {
		q.lines.forget(id)
	}
}
