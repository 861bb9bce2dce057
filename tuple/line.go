package tuple

import (
	"container/heap"
	"container/list"

	"github.com/ephemera-go/ephemera/internal/ports"
)

// flow is the waiters who ask for the same: what keeps one of them waiting keeps them all, so that they wait as one,
// behind the first who came.
type flow struct {
	class
	sh      *shard
	waiters list.List // of *waiter, in order of arrival; never empty
	line    *line     // where they wait, and
	at      int       // where in it
}

// class is what the waiters of a flow have in common.
type class struct {
	key   dstKey
	owner string
	src   addr
	table *ports.Allowed
}

func (a *ask) class() class { return class{a.key, a.owner, a.src, a.table} }

func (f *flow) first() *waiter  { return f.waiters.Front().Value.(*waiter) }
func (f *flow) last() *waiter   { return f.waiters.Back().Value.(*waiter) }
func (f *flow) arrival() uint64 { return f.first().arrival }
func (f *flow) position() *int  { return &f.at }
func (f *flow) moveTo(l *line)  { f.line.remove(f); l.add(f) }

// line is flows that wait for one thing, in order of arrival: for a destination, or for what an owner needs of the
// quotas.
type line struct {
	flows queue[*flow]
	crowd *crowd
	owner *owner // nil: the line of a destination
}

func (l *line) isEmpty() bool { return len(l.flows) == 0 }
func (l *line) head() *flow   { return l.flows[0] }

func (l *line) add(f *flow) {
	f.line = l
	heap.Push(&l.flows, f)
	l.crowd.flows.put(f, struct{}{})
	l.crowd.add(f.owner, f.waiters.Len())
	l.changed()
}

func (l *line) remove(f *flow) {
	heap.Remove(&l.flows, f.at)
	l.crowd.flows.delete(f)
	l.crowd.add(f.owner, -f.waiters.Len())
	l.changed()
}

// changed tells the quota, if it is one that l is a line for.
func (l *line) changed() {
	if l.owner != nil {
		l.owner.quota.place(l.owner)
	}
}

// crowd is those whom MaxWaiters bounds together, counted by owner.
type crowd struct {
	n     int
	of    shrinking[string, int]
	flows shrinking[*flow, struct{}]
	with  []int // with[i] is how many owners have i
	most  int   // no owner has more
}

// add counts more waiters of an owner, or fewer.
func (c *crowd) add(owner string, count int) {
	c.n += count
	if c.n == 0 {
		*c = crowd{}
		return
	}
	was := c.of.get(owner)
	is := was + count
	if was > 0 {
		c.with[was]--
	}
	if is == 0 {
		c.of.delete(owner)
		return
	}
	c.of.put(owner, is)
	c.most = max(c.most, is)
	for len(c.with) <= c.most {
		c.with = append(c.with, 0)
	}
	c.with[is]++
}

// displaced returns who makes room for one more of an owner where all places are taken: the newest waiter of those
// who have most of them (longest queue drop), if that is at least two more than this owner has; else nil. So a place
// goes to where it evens things out, and an owner who floods the line keeps nobody else from it.
func (c *crowd) displaced(owner string) *waiter {
	for c.with[c.most] == 0 {
		c.most--
	}
	if c.most < c.of.get(owner)+2 {
		return nil
	}
	var newest *waiter
	for f := range c.flows.m {
		if w := f.last(); c.of.get(f.owner) == c.most && (newest == nil || w.arrival > newest.arrival) {
			newest = w
		}
	}
	return newest
}

// queue is a heap by arrival.
type queue[T interface {
	arrival() uint64
	position() *int // where in the queue it lies
}] []T

func (q queue[T]) Len() int           { return len(q) }
func (q queue[T]) Less(i, j int) bool { return q[i].arrival() < q[j].arrival() }

func (q queue[T]) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	*q[i].position(), *q[j].position() = i, j
}

func (q *queue[T]) Push(x any) {
	*x.(T).position() = len(*q)
	*q = append(*q, x.(T))
}

func (q *queue[T]) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	clear((*q)[last:])
	*q = (*q)[:last]
	if c := cap(*q); c > smallMap && last < c/4 {
		*q = append(make(queue[T], 0, c/2), *q...)
	}
	return x
}
