package tuple

import (
	"container/heap"
	"math"
	"slices"
	"time"
)

// cooldown is the retired and the taken tuples of a shard. Those of one kind and duration come free in the order in
// which they came, so these have a queue of their own, and the queues are a heap by what comes free first. Programs
// use a few durations, so that adding and removing are O(1); they stay right, at O(log n), with many.
type cooldown struct {
	n       int       // retired and taken
	taken   int       // taken
	queues  queueHeap // those that are not empty
	byDelay [kinds]shrinking[time.Duration, *restQueue]
	early   *retirees // takes the place of both under ReuseRetired, nil else
}

// kind is why a tuple is neither free nor in use.
type kind uint8

const (
	byPolicy  kind = iota // Retire and RetireAs retired it
	forKernel             // it is retired because the kernel still holds it: that may end early
	taken                 // others have it: that may end early
	kinds
)

// state is how a tuple of the kind stands.
func (k kind) state() State {
	if k == taken {
		return Taken
	}
	return Retired
}

// idleQueues bounds how many empty queues are kept for the next tuple of their duration.
const idleQueues = 8

// resting is a retired or taken tuple.
type resting struct {
	until int64 // by the clock of now; never if it has no time
	key   dstKey
	hold  hold
}

func (c *cooldown) add(k kind, delay time.Duration, r resting) {
	c.n++
	if k == taken {
		c.taken++
	}
	if c.early != nil {
		c.early.add(k, delay, r)
		return
	}
	q := c.byDelay[k].get(delay)
	if q == nil {
		q = &restQueue{kind: k, delay: delay}
		c.byDelay[k].put(delay, q)
	}
	q.push(r)
	if q.n == 1 {
		heap.Push(&c.queues, q)
	}
}

func (c *cooldown) empty() bool { return c.n == 0 }

// retired returns how many tuples cool down.
func (c *cooldown) retired() int { return c.n - c.taken }

// next returns when the first of the tuples comes free, never if none has a time. There must be one.
func (c *cooldown) next() int64 {
	if c.early != nil {
		return c.early.queues[0].first.until
	}
	return c.queues[0].first().until
}

// pop removes a tuple that is free by now, if there is one.
func (c *cooldown) pop(now int64) (r resting, ok bool) {
	if c.empty() || c.next() > now {
		return resting{}, false
	}
	if c.early != nil {
		return c.take(c.early.queues[0].first), true
	}
	q := c.queues[0]
	r = q.pop()
	c.removed(q.kind)
	if q.n > 0 {
		heap.Fix(&c.queues, 0)
		return r, true
	}
	heap.Pop(&c.queues)
	c.dropIdle(q)
	return r, true
}

// removed counts a tuple that is no longer there.
func (c *cooldown) removed(k kind) {
	c.n--
	if k == taken {
		c.taken--
	}
}

// began returns when the time of a tuple began that ends so. What is taken without a time has always been so.
func began(until int64, delay time.Duration) int64 {
	if until == never {
		return math.MinInt64
	}
	return until - int64(delay)
}

// dropIdle forgets a queue that is empty, if there are many.
func (c *cooldown) dropIdle(q *restQueue) {
	if m := &c.byDelay[q.kind]; len(m.m) > idleQueues {
		m.delete(q.delay)
	}
}

// removeIf removes the tuples towards key that drop is true for and whose time may end early: those that are retired
// for the kernel or taken. It tells drop when that began, and looks through all of them in the shard.
func (c *cooldown) removeIf(key dstKey, drop func(h hold, began int64) bool) {
	if c.early != nil {
		c.early.removeIf(key, drop, c)
		return
	}
	left := c.queues[:0]
	for _, q := range c.queues {
		if q.kind != byPolicy {
			for range q.removeIf(func(r *resting) bool { return r.key == key && drop(r.hold, began(r.until, q.delay)) }) {
				c.removed(q.kind)
			}
		}
		if q.n > 0 {
			left = append(left, q)
		} else {
			c.dropIdle(q)
		}
	}
	clear(c.queues[len(left):])
	c.queues = left
	if n := cap(left); n > smallMap && len(left) < n/4 {
		c.queues = slices.Clone(left)
	}
	heap.Init(&c.queues)
}

// nextOf returns when the first tuple towards key comes free, never if none has a time. There must be one. It looks
// through all of them in the shard, so the caller should remember the answer.
func (c *cooldown) nextOf(key dstKey) int64 {
	if c.early != nil {
		return c.early.nextOf(key)
	}
	var next int64
	found := false
	for _, q := range c.queues {
		for i := range q.n {
			if r := q.at(i); r.key == key {
				if !found || r.until < next {
					next, found = r.until, true
				}
				break
			}
		}
	}
	return next
}

// renumber makes the tuples those of another plan.
func (c *cooldown) renumber(old, next *plan) {
	if c.early != nil {
		c.early.renumber(old, next)
		return
	}
	for _, q := range c.queues {
		for i := range q.n {
			r := q.at(i)
			r.hold, _ = renumber(r.hold, old.sources(r.key), next.sources(r.key))
		}
	}
}

// restQueue is a first-in first-out queue in a circular buffer that grows and shrinks with what it holds.
type restQueue struct {
	kind    kind
	delay   time.Duration // negative: without a time
	buf     []resting     // its length is 0 or a power of two
	head, n int
}

func (q *restQueue) at(i int) *resting { return &q.buf[(q.head+i)&(len(q.buf)-1)] }

func (q *restQueue) first() *resting { return q.at(0) }

func (q *restQueue) push(r resting) {
	if q.n == len(q.buf) {
		q.resize(max(4, 2*len(q.buf)))
	}
	q.n++
	*q.at(q.n - 1) = r
}

func (q *restQueue) pop() resting {
	r := *q.first()
	q.head = (q.head + 1) & (len(q.buf) - 1)
	q.n--
	if len(q.buf) > 4 && q.n <= len(q.buf)/4 {
		q.resize(len(q.buf) / 2)
	}
	return r
}

// removeIf removes what drop is true for, and returns how many that were. The others stay in order.
func (q *restQueue) removeIf(drop func(*resting) bool) (removed int) {
	for i := range q.n {
		switch r := q.at(i); {
		case drop(r):
			removed++
		case removed > 0:
			*q.at(i - removed) = *r
		}
	}
	q.n -= removed
	size := len(q.buf)
	for size > 4 && q.n <= size/4 {
		size /= 2
	}
	if size < len(q.buf) {
		q.resize(size)
	}
	return removed
}

func (q *restQueue) resize(size int) {
	buf := make([]resting, size)
	for i := range q.n {
		buf[i] = *q.at(i)
	}
	q.buf, q.head = buf, 0
}

// queueHeap orders queues by what comes free first.
type queueHeap []*restQueue

func (h queueHeap) Len() int           { return len(h) }
func (h queueHeap) Less(i, j int) bool { return h[i].first().until < h[j].first().until }
func (h queueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *queueHeap) Push(q any)        { *h = append(*h, q.(*restQueue)) }

func (h *queueHeap) Pop() any {
	last := len(*h) - 1
	q := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	if c := cap(*h); c > smallMap && last < c/4 {
		*h = append(make(queueHeap, 0, c/2), *h...)
	}
	return q
}
