package tuple

import (
	"container/heap"
	"sync"
	"time"

	"github.com/ephemera-go/ephemera/internal/ports"
)

// retirees is the retired and the taken tuples of a shard, any of which may be removed before its time. They lie in
// two orders at once: those of one kind and duration in a queue, as in a cooldown, and those towards one destination
// in a line. Both are linked lists, so that a tuple that is removed leaves nothing behind.
type retirees struct {
	queues  retireeHeap // those that are not empty
	byDelay [kinds]shrinking[time.Duration, *retireeQueue]
	lines   shrinking[dstKey, *retireeLine]
	spare   struct{ retirees, lines sync.Pool }
}

// retiree is a retired or taken tuple.
type retiree struct {
	until         int64
	hold          hold
	queue         *retireeQueue
	line          *retireeLine
	sooner, later *retiree // in its queue
	older, newer  *retiree // in its line
}

// retireeQueue is those of one kind that came for the same time, in order.
type retireeQueue struct {
	kind        kind
	delay       time.Duration
	at          int // in the heap
	first, last *retiree
}

// retireeLine is those towards one destination, in the order in which they came.
type retireeLine struct {
	key            dstKey
	oldest, newest *retiree
	passed         *passes // nil until a request had to pass some by
}

func (c *retirees) add(k kind, delay time.Duration, r resting) {
	e, ok := c.spare.retirees.Get().(*retiree)
	if !ok {
		e = new(retiree)
	}
	q, l := c.queue(k, delay), c.line(r.key)
	*e = retiree{until: r.until, hold: r.hold, queue: q, line: l, sooner: q.last, older: l.newest}
	if l.newest == nil {
		l.oldest = e
	} else {
		l.newest.newer = e
	}
	l.newest = e
	if q.last != nil {
		q.last.later = e
		q.last = e
		return
	}
	q.first, q.last = e, e
	heap.Push(&c.queues, q)
}

func (c *retirees) queue(k kind, delay time.Duration) *retireeQueue {
	q := c.byDelay[k].get(delay)
	if q == nil {
		q = &retireeQueue{kind: k, delay: delay}
		c.byDelay[k].put(delay, q)
	}
	return q
}

func (c *retirees) line(key dstKey) *retireeLine {
	l := c.lines.get(key)
	if l == nil {
		var ok bool
		if l, ok = c.spare.lines.Get().(*retireeLine); !ok {
			l = new(retireeLine)
		}
		l.key = key
		c.lines.put(key, l)
	}
	return l
}

// remove takes out e, which must not be looked at any more.
func (c *retirees) remove(e *retiree) resting {
	r := resting{e.until, e.line.key, e.hold}
	c.unqueue(e)
	c.unline(e)
	*e = retiree{}
	c.spare.retirees.Put(e)
	return r
}

func (c *retirees) unqueue(e *retiree) {
	q := e.queue
	if e.later != nil {
		e.later.sooner = e.sooner
	} else {
		q.last = e.sooner
	}
	if e.sooner != nil {
		e.sooner.later = e.later
		return
	}
	if q.first = e.later; q.first != nil {
		heap.Fix(&c.queues, q.at)
		return
	}
	heap.Remove(&c.queues, q.at)
	if m := &c.byDelay[q.kind]; len(m.m) > idleQueues {
		m.delete(q.delay)
	}
}

func (c *retirees) unline(e *retiree) {
	l := e.line
	l.passed.leave(e)
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		l.newest = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		l.oldest = e.newer
	}
	if l.oldest == nil {
		c.lines.delete(l.key)
		l.passed.forget()
		c.spare.lines.Put(l)
	}
}

// removeIf is cooldown.removeIf. It looks through all that is in line for key.
func (c *retirees) removeIf(key dstKey, drop func(h hold, began int64) bool, of *cooldown) {
	l := c.lines.get(key)
	if l == nil {
		return
	}
	for e := l.oldest; e != nil; {
		next := e.newer
		if e.queue.kind != byPolicy && drop(e.hold, began(e.until, e.queue.delay)) {
			of.take(e)
		}
		e = next
	}
}

// first returns the first in line that a can do with, nil if there is none. Nobody can do with one that is taken.
func (c *retirees) first(a *ask, from *sources) *retiree {
	l := c.lines.get(a.key)
	if l == nil {
		return nil
	}
	last := l.passed.of(a)
	e := l.oldest
	if last != nil {
		e = last.newer
	}
	begin := e
	for ; e != nil && (e.queue.kind == taken || !a.fits(e.hold, from)); e = e.newer {
		last = e
	}
	if e != begin {
		if l.passed == nil {
			l.passed = new(passes)
		}
		l.passed.note(a, last)
	}
	return e
}

// nextOf is cooldown.nextOf.
func (c *retirees) nextOf(key dstKey) int64 {
	next := int64(never)
	for e := c.lines.get(key).oldest; e != nil; e = e.newer {
		next = min(next, e.until)
	}
	return next
}

// renumber makes the tuples those of another plan. What would not do may do now.
func (c *retirees) renumber(old, next *plan) {
	for key, l := range c.lines.m {
		was, is := old.sources(key), next.sources(key)
		l.passed.forget()
		for e := l.oldest; e != nil; e = e.newer {
			e.hold, _ = renumber(e.hold, was, is)
		}
	}
}

// passes is how far in a line there is nothing for a kind of request: up to the last that was passed by, this one
// included. What is retired later comes behind it, so that each is passed by but once for each kind, and finding the
// first that will do is O(1) amortised.
type passes struct {
	list []pass
	turn int // which of the list the next new kind takes the place of, once there are mostPasses
}

type pass struct {
	src   addr
	table *ports.Allowed
	last  *retiree // nil: none was passed by
}

// mostPasses bounds the kinds of request that are remembered of a destination, which are looked through.
const mostPasses = 64

// of returns the last that was passed by for requests such as a, nil if none was.
func (p *passes) of(a *ask) *retiree {
	if p == nil {
		return nil
	}
	for i := range p.list {
		if s := &p.list[i]; s.src == a.src && s.table == a.table {
			return s.last
		}
	}
	return nil
}

func (p *passes) note(a *ask, last *retiree) {
	for i := range p.list {
		if s := &p.list[i]; s.src == a.src && s.table == a.table {
			s.last = last
			return
		}
	}
	s := pass{a.src, a.table, last}
	if len(p.list) < mostPasses {
		p.list = append(p.list, s)
		return
	}
	p.list[p.turn] = s
	p.turn = (p.turn + 1) % mostPasses
}

// forget makes p as good as new. Its memory is kept, for the next line that has need of it.
func (p *passes) forget() {
	if p != nil {
		clear(p.list)
		p.list, p.turn = p.list[:0], 0
	}
}

// leave says that e leaves its line.
func (p *passes) leave(e *retiree) {
	if p == nil {
		return
	}
	for i := range p.list {
		if s := &p.list[i]; s.last == e {
			s.last = e.older
		}
	}
}

// retireeHeap orders queues by what comes free first.
type retireeHeap []*retireeQueue

func (h retireeHeap) Len() int           { return len(h) }
func (h retireeHeap) Less(i, j int) bool { return h[i].first.until < h[j].first.until }

func (h retireeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *retireeHeap) Push(q any) {
	q.(*retireeQueue).at = len(*h)
	*h = append(*h, q.(*retireeQueue))
}

func (h *retireeHeap) Pop() any {
	last := len(*h) - 1
	q := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	if c := cap(*h); c > smallMap && last < c/4 {
		*h = append(make(retireeHeap, 0, c/2), *h...)
	}
	return q
}
