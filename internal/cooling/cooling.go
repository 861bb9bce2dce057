// Package cooling keeps what comes free by itself after a while, ordered by time.
//
// A [Queue] holds items. An item is one of the things that a key has, named by a number, its hold. It stays until its
// time comes, and [Queue.Pop] removes it then. Some items may end before their time: [Queue.RemoveIf] removes those
// that turn out to be free, and [Queue.TakeOldest] the one that has been here longest.
//
// The package knows nothing else about keys and holds, and it does not read the clock: the caller passes the time, in
// nanoseconds since an instant of its choice.
package cooling

import (
	"math"
	"time"
)

// Never is after all other times. Pop does not return an item whose time is Never.
const Never int64 = math.MaxInt64

// Kind is why an item is in a Queue. It decides what may end before its time.
type Kind uint8

const (
	Firm   Kind = iota // retired, as the user's policy says: RemoveIf leaves it alone
	Kernel             // retired, because the kernel still holds it
	Taken              // others have it: TakeOldest leaves it alone
	kinds
)

// Item is what a Queue holds.
type Item[K comparable] struct {
	Key   K
	Hold  uint64
	Until int64 // when its time comes; Never if it has none
	Kind  Kind
}

// Queue holds up to 1<<32-1 items, in the order in which their times come. If it is Ordered, it also holds those of
// each key in the order in which they came.
//
// C is a class of requests: TakeOldest remembers for each how far it has looked.
//
// The zero Queue is empty and not Ordered. A Queue must not be copied after its first use. Only one goroutine may use
// it at a time, and a function that is passed to a method must not use it at all.
//
// If K has no pointers, the garbage collector does not scan the items. If K has some, what they point to may stay in
// memory for a while after the item is gone.
type Queue[K, C comparable] struct {
	// Ordered makes TakeOldest work, and lets NextOf and RemoveIf look through the items of one key instead of all.
	// It costs 16 bytes an item, and an entry of a map for each key that has items. It must not change after the
	// first Add.
	Ordered bool

	len      int // all items
	taken    int // those that are Taken
	slab     slab[K]
	schedule schedule
	lines    lines[K, C] // empty unless Ordered
}

// Len returns the number of items.
func (q *Queue[K, C]) Len() int { return q.len }

// Taken returns the number of items that are Taken.
func (q *Queue[K, C]) Taken() int { return q.taken }

// Add adds an item. It returns when its time comes: delay after now, at the latest the instant before Never. If delay
// is negative, the item has no time, and Add returns Never.
//
// The time now must not be before that of an earlier Add. Items of one kind and delay therefore come free in the order
// in which they came, so Add and Pop cost O(1), amortised, as long as there are few delays. With n delays in use they
// cost O(log n).
func (q *Queue[K, C]) Add(key K, hold uint64, kind Kind, now int64, delay time.Duration) (until int64) {
	until = after(now, delay)
	id := q.schedule.find(kind, max(delay, -1))
	i := q.slab.take()
	n := &q.slab.nodes[i]
	n.key, n.hold, n.until, n.next, n.series = key, hold, until, 0, id
	s := &q.schedule.series[id]
	prev := s.last
	s.last = i
	if prev != 0 {
		q.slab.nodes[prev].next = i
	} else {
		s.first = i
		q.schedule.start(id, until)
	}
	if q.Ordered {
		q.lines.join(key, i, prev)
	}
	q.len++
	if kind == Taken {
		q.taken++
	}
	return until
}

// after returns the time that comes delay after now.
func after(now int64, delay time.Duration) int64 {
	if delay < 0 {
		return Never
	}
	if until := now + int64(delay); until >= now {
		return min(until, Never-1)
	}
	return Never - 1
}

// Next returns when the first item's time comes. It returns Never if there is no item, or none has a time.
func (q *Queue[K, C]) Next() int64 { return q.schedule.next() }

// Pop removes the first item whose time has come by now. It returns false if there is none. Items of the same time may
// come in any order.
func (q *Queue[K, C]) Pop(now int64) (item Item[K], ok bool) {
	if next := q.Next(); next > now || next == Never {
		return item, false
	}
	i := q.schedule.first()
	item = q.item(i)
	q.remove(i, 0)
	q.shrink()
	return item, true
}

func (q *Queue[K, C]) item(i uint32) (item Item[K]) {
	n := &q.slab.nodes[i]
	item.Key, item.Hold, item.Until, item.Kind = n.key, n.hold, n.until, q.schedule.series[n.series].kind
	return item
}

// remove removes node i. prev is the one before it in its series, 0 if it is the first. The caller must shrink q, once
// it does not need the indexes of other nodes any more.
func (q *Queue[K, C]) remove(i, prev uint32) {
	n := &q.slab.nodes[i]
	id, next := n.series, n.next
	s := &q.schedule.series[id]
	if q.Ordered {
		q.lines.leave(n.key, i, next)
	}
	q.slab.give(i)
	q.len--
	if s.kind == Taken {
		q.taken--
	}
	if next == 0 {
		s.last = prev
	}
	switch {
	case prev != 0:
		q.slab.nodes[prev].next = next
	case next != 0:
		s.first = next
		q.schedule.advance(s, q.slab.nodes[next].until)
	default:
		s.first = 0
		q.schedule.stop(id)
	}
}
