package tuple

import (
	"container/heap"
	"time"
)

// cooldown is the retired tuples of a shard. Those of one duration come free in the order in which they were retired, so
// each duration has a queue of its own, and the queues are a heap by what comes free first. Programs use a few durations,
// so that adding and removing are O(1); they stay right, at O(log n), with many.
type cooldown struct {
	n       int
	queues  queueHeap // those that are not empty
	byDelay shrinking[time.Duration, *restQueue]
	early   *retirees // takes the place of both under ReuseRetired, nil else
}

// idleQueues bounds how many empty queues are kept for the next tuple of their duration.
const idleQueues = 8

// resting is a retired tuple.
type resting struct {
	until int64 // by the clock of now
	key   dstKey
	hold  hold
}

func (c *cooldown) add(delay time.Duration, r resting) {
	if c.early != nil {
		c.n++
		c.early.add(delay, r)
		return
	}
	q := c.byDelay.get(delay)
	if q == nil {
		q = &restQueue{delay: delay}
		c.byDelay.put(delay, q)
	}
	c.n++
	q.push(r)
	if q.n == 1 {
		heap.Push(&c.queues, q)
	}
}

func (c *cooldown) empty() bool { return c.n == 0 }

// next returns when the first of the retired tuples comes free. There must be one.
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
	c.n--
	if c.early != nil {
		return c.early.remove(c.early.queues[0].first), true
	}
	q := c.queues[0]
	r = q.pop()
	if q.n > 0 {
		heap.Fix(&c.queues, 0)
		return r, true
	}
	heap.Pop(&c.queues)
	if len(c.byDelay.m) > idleQueues {
		c.byDelay.delete(q.delay)
	}
	return r, true
}

// nextOf returns when the first retired tuple towards key comes free. There must be one. It looks through all of them, so
// whoever asks had better remember.
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

// renumber makes the retired tuples those of another plan.
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
	delay   time.Duration
	buf     []resting // its length is 0 or a power of two
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
