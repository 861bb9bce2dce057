package cooling

import (
	"errors"
	"fmt"
)

// Check returns the first thing in the structure that contradicts another, for tests. fits is what TakeOldest is told
// of a class.
func (q *Queue[K, C]) Check(fits func(key K, class C, hold uint64) bool) error {
	queued, err := q.checkSeries()
	if err != nil {
		return err
	}
	if err := q.schedule.check(); err != nil {
		return err
	}
	taken := 0
	for i := range queued {
		if q.kind(i) == Taken {
			taken++
		}
	}
	free := 0
	for i := q.slab.free; i != 0; i = q.slab.nodes[i].next {
		if free++; queued[i] || q.slab.nodes[i].next == 0 && i != q.slab.freed {
			return fmt.Errorf("node %d is free, and in use or the wrong last one", i)
		}
	}
	switch nodes := len(q.slab.nodes); {
	case len(queued) != q.len || taken != q.taken:
		return fmt.Errorf("%d items, %d Taken; the counts are %d and %d", len(queued), taken, q.len, q.taken)
	case free+q.len != max(0, nodes-1):
		return fmt.Errorf("%d nodes, %d of them free and %d in use", nodes, free, q.len)
	case nodes > smallSlab && q.len <= nodes/4:
		return fmt.Errorf("%d nodes for %d items", nodes, q.len)
	case len(q.schedule.series) > nodes+int(kinds)*idleSeries:
		return fmt.Errorf("%d series for %d nodes", len(q.schedule.series), nodes)
	case !q.Ordered:
		if len(q.lines.links)+len(q.lines.all)+len(q.lines.byKey)+len(q.lines.passed) > 0 {
			return errors.New("there are lines in a queue that is not Ordered")
		}
		return nil
	case len(q.lines.links) > nodes || len(q.lines.all) > nodes:
		return fmt.Errorf("%d links and %d lines for %d nodes", len(q.lines.links), len(q.lines.all), nodes)
	}
	return q.checkLines(fits)
}

func (q *Queue[K, C]) checkSeries() (queued map[uint32]bool, err error) {
	queued = map[uint32]bool{}
	for id, s := range q.schedule.series {
		if s.first == 0 {
			continue
		}
		prev := uint32(0)
		for i := s.first; i != 0; prev, i = i, q.slab.nodes[i].next {
			n := q.slab.nodes[i]
			switch {
			case queued[i]:
				return nil, fmt.Errorf("node %d is in two places", i)
			case n.series != uint32(id) || q.Ordered && q.lines.links[i].prev != prev:
				return nil, fmt.Errorf("the links of the series of %v do not fit", s.delay)
			case prev != 0 && n.until < q.slab.nodes[prev].until:
				return nil, fmt.Errorf("the series of %v is out of order", s.delay)
			}
			queued[i] = true
		}
		if s.last != prev {
			return nil, fmt.Errorf("the series of %v ends elsewhere", s.delay)
		}
		if at := q.schedule.heap[s.at]; at != (due{q.slab.nodes[s.first].until, uint32(id)}) {
			return nil, fmt.Errorf("the heap has %v for the series of %v", at, s.delay)
		}
	}
	return queued, nil
}

func (c *schedule) check() error {
	for i, d := range c.heap {
		if d.until < c.heap[max(0, i-1)/2].until || c.series[d.series].first == 0 {
			return fmt.Errorf("series %d is empty, or comes before its parent", d.series)
		}
	}
	active, unused := 0, 0
	for i := c.free; i != 0; i = c.series[i].last {
		unused++
	}
	for kind, m := range c.byDelay {
		idle := 0
		for delay, id := range m {
			if s := c.series[id]; s.delay != delay || s.kind != Kind(kind) || delay < -1 {
				return fmt.Errorf("series %d is not that of kind %d and %v", id, kind, delay)
			} else if s.first == 0 {
				idle++
			}
		}
		if idle > idleSeries {
			return fmt.Errorf("%d series of kind %d are idle", idle, kind)
		}
		if c.busy[kind] != len(m)-idle {
			return fmt.Errorf("%d series of kind %d have items, and the count is %d", len(m)-idle, kind, c.busy[kind])
		}
		active += c.busy[kind]
		unused += idle
	}
	if active != len(c.heap) || active+unused != max(0, len(c.series)-1) {
		return fmt.Errorf("%d series, %d with items, %d without, %d in the heap",
			len(c.series), active, unused, len(c.heap))
	}
	return nil
}

func (q *Queue[K, C]) checkLines(fits func(key K, class C, hold uint64) bool) error {
	l, lined, unused := &q.lines, 0, 0
	for key, id := range l.byKey {
		rank := map[uint32]int{0: 0}
		last := uint32(0)
		for i := l.all[id].oldest; i != 0; last, i = i, l.links[i].newer {
			if e := l.links[i]; e.older != last || e.line != id || q.slab.nodes[i].key != key {
				return fmt.Errorf("the links of the line of %v do not fit", key)
			}
			lined++
			rank[i] = len(rank)
		}
		if last == 0 || l.all[id].newest != last {
			return fmt.Errorf("the line of %v is empty, or ends elsewhere", key)
		}
		p := l.passed[id]
		if p == nil {
			continue
		}
		if len(p.list) > mostPasses {
			return fmt.Errorf("%d classes are remembered", len(p.list))
		}
		for _, pass := range p.list {
			if _, ok := rank[pass.last]; !ok {
				return fmt.Errorf("class %v passed by node %d, which is not in the line", pass.class, pass.last)
			}
			for i, r := range rank {
				if i != 0 && r <= rank[pass.last] && q.kind(i) != Taken && fits(key, pass.class, q.slab.nodes[i].hold) {
					return fmt.Errorf("class %v passed by node %d, which fits", pass.class, i)
				}
			}
		}
	}
	for i := l.free; i != 0; i = l.all[i].newest {
		unused++
	}
	if lined != q.len || len(l.byKey)+unused != max(0, len(l.all)-1) {
		return fmt.Errorf("%d items, %d in lines; %d lines, %d of them not in use", q.len, lined, len(l.byKey), unused)
	}
	for id := range l.passed {
		if l.all[id].oldest == 0 {
			return errors.New("passes are left of a line that is gone")
		}
	}
	for _, p := range l.spare {
		if len(p.list) > 0 || p.turn > 0 {
			return errors.New("spare passes are not empty")
		}
	}
	if len(l.spare) > sparePasses {
		return fmt.Errorf("%d spare passes", len(l.spare))
	}
	return nil
}

// All yields the items, in no order, for tests.
func (q *Queue[K, C]) All(yield func(Item[K]) bool) {
	for id := range q.schedule.series {
		for i := q.schedule.series[id].first; i != 0; i = q.slab.nodes[i].next {
			if !yield(q.item(i)) {
				return
			}
		}
	}
}
