package tuple

import (
	"fmt"
	"math/bits"
)

// Check walks all that p holds and returns the first thing that contradicts another.
func (p *Pool) Check() error {
	st := p.ready()
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		err := sh.check(st)
		sh.mu.Unlock()
		if err != nil {
			return fmt.Errorf("shard %d: %w", i, err)
		}
	}
	return nil
}

func (sh *shard) check(st *state) error {
	inUse, retired, waiting := 0, 0, 0
	for key, d := range sh.dsts.m {
		if d.key != key || st.shard(key) != sh {
			return fmt.Errorf("%v lies at the place of %v", d.key.netip(), key.netip())
		}
		if err := d.check(st.plan); err != nil {
			return fmt.Errorf("%v: %w", key.netip(), err)
		}
		inUse += d.inUse
		retired += d.retired
		if d.waiters != nil {
			waiting += d.waiters.Len()
		}
	}
	switch {
	case sh.inUse != inUse || sh.cool.n != retired || sh.waiting != waiting:
		return fmt.Errorf("counts %d in use, %d retired, %d waiting; its destinations count %d, %d, %d",
			sh.inUse, sh.cool.n, sh.waiting, inUse, retired, waiting)
	case sh.dsts.peak < len(sh.dsts.m):
		return fmt.Errorf("a table of %d has a peak of %d", len(sh.dsts.m), sh.dsts.peak)
	case sh.waiting == 0 && sh.wake != nil:
		return fmt.Errorf("nobody waits, and a timer runs")
	case sh.waiting > 0 && retired > 0 && sh.wake == nil:
		return fmt.Errorf("%d wait for what cools down, and no timer runs", sh.waiting)
	}
	return sh.cool.check(sh, st.plan)
}

func (d *destination) check(pl *plan) error {
	if d.idle() {
		return fmt.Errorf("is idle and still there")
	}
	if d.from != pl.sources(d.key.addr) {
		return fmt.Errorf("has the sources of another family")
	}
	used := make([]*source, 0, len(d.others.m)+1)
	if d.first.used {
		used = append(used, &d.first)
	} else if d.first.held.Len(pl.ports)+d.first.retired.Len(pl.ports) != 0 {
		return fmt.Errorf("its first source is unused and holds ports")
	}
	for a, s := range d.others.m {
		if a != s.addr || !s.used || d.first.used && d.first.addr == a {
			return fmt.Errorf("source %v lies at the place of %v", s.addr.netip(), a.netip())
		}
		used = append(used, s)
	}
	held, retired, full := 0, 0, uint64(0)
	for _, s := range used {
		switch number, ok := d.from.index(s.addr); {
		case !ok || number != s.number || d.from.at(number) != s.addr:
			return fmt.Errorf("source %v has number %d, not %d", s.addr.netip(), s.number, number)
		case s.held.Len(pl.ports) == 0:
			return fmt.Errorf("source %v holds nothing and is still there", s.addr.netip())
		}
		held += s.held.Len(pl.ports)
		retired += s.retired.Len(pl.ports)
		isFull := s.held.Len(pl.ports) == pl.ports.Len()
		if inSet := d.full.words.get(s.number/64)>>(s.number%64)&1 != 0; inSet != isFull {
			return fmt.Errorf("source %v full: %t, and in the set of the full ones: %t", s.addr.netip(), isFull, inSet)
		}
		if isFull {
			full++
		}
	}
	inSet := 0
	for _, w := range d.full.words.m {
		if w == 0 {
			return fmt.Errorf("the set of full sources keeps an empty word")
		}
		inSet += bits.OnesCount64(w)
	}
	switch {
	case held != d.inUse+d.retired || retired != d.retired:
		return fmt.Errorf("counts %d in use, %d retired; its sources hold %d, of which %d retired", d.inUse, d.retired, held, retired)
	case full != d.full.n || full != uint64(inSet):
		return fmt.Errorf("%d sources are full, counted %d, in the set %d", full, d.full.n, inSet)
	case d.turn >= d.from.len():
		return fmt.Errorf("it is the turn of source %d of %d", d.turn, d.from.len())
	case d.waiters != nil && d.waiters.Len() > 0 && full != d.from.len():
		return fmt.Errorf("%d wait though only %d of %d sources are full", d.waiters.Len(), full, d.from.len())
	}
	return nil
}

func (c *cooldown) check(sh *shard, pl *plan) error {
	n := 0
	for i, q := range c.queues {
		switch {
		case q.n == 0:
			return fmt.Errorf("an empty queue is among those that are not")
		case c.byDelay.get(q.delay) != q:
			return fmt.Errorf("the queue of %v is not to be found", q.delay)
		case i > 0 && q.first().until < c.queues[(i-1)/2].first().until:
			return fmt.Errorf("queue %d comes free before its parent", i)
		case len(q.buf)&(len(q.buf)-1) != 0 || q.n > len(q.buf):
			return fmt.Errorf("a queue of %d in a buffer of %d", q.n, len(q.buf))
		case len(q.buf) > 4 && q.n < len(q.buf)/4:
			return fmt.Errorf("a queue of %d keeps a buffer of %d", q.n, len(q.buf))
		}
		n += q.n
		for j := range q.n {
			r := q.at(j)
			if j > 0 && r.until < q.at(j-1).until {
				return fmt.Errorf("the queue of %v is out of order", q.delay)
			}
			if sh.dsts.get(r.dst.key) != r.dst || r.dst.find(r.src.addr) != r.src || !r.src.retired.Contains(pl.ports, r.port) ||
				!r.src.held.Contains(pl.ports, r.port) {
				return fmt.Errorf("port %d cools down and is not held", r.port)
			}
		}
	}
	idle := 0
	for _, q := range c.byDelay.m {
		if q.n == 0 {
			idle++
		}
	}
	if n != c.n || len(c.byDelay.m) != idle+len(c.queues) || idle > idleQueues {
		return fmt.Errorf("%d cool down, counted %d; %d queues, of which %d empty and %d not", n, c.n, len(c.byDelay.m), idle, len(c.queues))
	}
	return nil
}
