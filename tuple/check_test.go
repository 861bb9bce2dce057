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
		mu := sh.lock()
		err := sh.check(st)
		if q := sh.plan.Load().quota; err == nil && q != nil {
			err = q.check()
		}
		mu.Unlock()
		if err != nil {
			return fmt.Errorf("shard %d: %w", i, err)
		}
	}
	return nil
}

func (sh *shard) check(st *state) error {
	inUse, retired, others, waiting := 0, 0, 0, 0
	for _, e := range []*entries{&sh.v4, &sh.v6} {
		s := e.slots.Load()
		if s == nil {
			continue
		}
		n, large := 0, 0
		for i := s.keyWords - 1; i < len(s.words); i += s.size {
			at := place{e, s, i}
			en := at.entry()
			if en[0] == 0 {
				if *en != (entry{}) || s.large != nil && s.largeAt(i).Load() != nil {
					return fmt.Errorf("empty slot %d has something in it: %x", i, *en)
				}
				continue
			}
			key := s.key(i)
			if found, ok := e.find(key, key.hash(&st.seed)); !ok || found.i != i || sh.entries(key) != e {
				return fmt.Errorf("%v lies in slot %d and is not found there", key.netip(), i)
			}
			if other, _ := st.shard(key); other != sh {
				return fmt.Errorf("%v lies in the wrong shard", key.netip())
			}
			n++
			u, r := en.counts()
			o := 0
			if d := at.destination(); d != nil {
				large++
				if err := d.check(key, sh.plan.Load()); err != nil {
					return fmt.Errorf("%v: %w", key.netip(), err)
				}
				if u+r != 0 {
					return fmt.Errorf("%v: lanes %x beside %d in use and %d retired", key.netip(), en[1:], d.inUse, d.retired)
				}
				u, r, o = d.inUse, d.retired, d.taken
			} else if err := en.check(sh.plan.Load().sources(key), sh.plan.Load()); err != nil {
				return fmt.Errorf("%v: %w", key.netip(), err)
			}
			inUse += u
			retired += r
			others += o
		}
		switch {
		case n != e.n || large != e.large:
			return fmt.Errorf("%d entries, %d of them large; counted %d and %d", n, large, e.n, e.large)
		case 4*n > 3*s.n, s.n > minSlots && 4*n < s.n:
			return fmt.Errorf("%d entries in %d slots", n, s.n)
		case e.seq.Load()%2 != 0:
			return fmt.Errorf("nothing moves, and the sequence is odd")
		}
	}
	for c, f := range sh.flows.m {
		waiting += f.waiters.Len()
		if f.class != c || f.sh != sh || f.waiters.Len() == 0 || f.line.flows[f.at] != f || f.line.owner != nil && f.line.owner.name != f.owner {
			return fmt.Errorf("a flow of %d towards %v is in the wrong line", f.waiters.Len(), c.key.netip())
		}
		if d, _ := sh.entries(c.key).find(c.key, c.key.hash(&st.seed)); f.line.owner == nil && (d.destination() == nil || d.destination().waiters != f.line) {
			return fmt.Errorf("a flow towards %v waits for nothing", c.key.netip())
		}
		for e := f.waiters.Front(); e.Next() != nil; e = e.Next() {
			if e.Value.(*waiter).arrival >= e.Next().Value.(*waiter).arrival {
				return fmt.Errorf("a flow towards %v is out of order", c.key.netip())
			}
		}
	}
	due := int64(never)
	if !sh.cool.empty() {
		due = sh.cool.next()
	}
	switch {
	case sh.inUse != inUse || sh.cool.retired() != retired || sh.cool.taken != others || sh.waiting != waiting:
		return fmt.Errorf("counts %d in use, %d retired, %d taken, %d waiting; its destinations count %d, %d, %d, %d",
			sh.inUse, sh.cool.retired(), sh.cool.taken, sh.waiting, inUse, retired, others, waiting)
	case sh.due.Load() != due:
		return fmt.Errorf("the next is due at %d, not at %d", due, sh.due.Load())
	case !sh.isWaitedFor() && sh.wake != nil:
		return fmt.Errorf("nobody waits, and a timer runs")
	case sh.isWaitedFor() && due != never && sh.wake == nil:
		return fmt.Errorf("%d wait for what cools down, and no timer runs", sh.waiting)
	}
	return sh.cool.check(sh, st)
}

func (en *entry) check(from *sources, pl *plan) error {
	inUse, retired := en.counts()
	if inUse+retired == 0 {
		return fmt.Errorf("is idle and still there")
	}
	if !pl.lanes {
		return fmt.Errorf("its tuples lie in lanes: %x", en[1:])
	}
	if en.peak() < inUse+retired {
		return fmt.Errorf("its peak is %d, and it holds %d", en.peak(), inUse+retired)
	}
	if en.turnLane() >= laneCount {
		return fmt.Errorf("it is nobody's turn: %x", *en)
	}
	for j := range laneCount {
		h := en.lane(j)
		switch {
		case h.port() == 0 && en.isRetired(j):
			return fmt.Errorf("lane %d is free and retired", j)
		case h.port() == 0:
		case !from.table(h.number()).Contains(h.port()):
			return fmt.Errorf("lane %d holds port %d of source %d of %d", j, h.port(), h.number(), from.n)
		case en.find(h) != j:
			return fmt.Errorf("lanes %d and %d hold the same", j, en.find(h))
		}
	}
	return nil
}

func (d *destination) check(key dstKey, pl *plan) error {
	if d.peak < d.inUse+d.retired || d.inUse+d.retired == 0 && d.peak != 0 {
		return fmt.Errorf("its peak is %d, and it holds %d", d.peak, d.inUse+d.retired)
	}
	held, retired, others, full := 0, 0, 0, uint64(0)
	if n := d.inUse + d.retired; d.key != key || n <= 1 && d.taken == 0 && !d.isWaitedFor() && (n == 0 || pl.lanes) {
		return fmt.Errorf("the destination of %v holds %d", d.key.netip(), n)
	}
	if d.from != pl.sources(key) {
		return fmt.Errorf("has the sources of another family")
	}
	used := make([]*source, 0, len(d.others.m)+1)
	if d.first.named.Load() != 0 {
		used = append(used, &d.first)
	} else if d.first.held.Len(d.first.table) != 0 {
		return fmt.Errorf("its first source is unused and holds ports")
	}
	for number, s := range d.others.m {
		if number != s.number() || s.named.Load() == d.first.named.Load() {
			return fmt.Errorf("source %d lies at the place of %d", s.number(), number)
		}
		used = append(used, s)
	}
	for _, s := range used {
		a := d.from.at(s.number())
		switch number, ok := d.from.number(a, firstOf(s)); {
		case !ok || number != s.number():
			return fmt.Errorf("source %v has number %d, not %d", a.netip(), s.number(), number)
		case s.held.Len(s.table) == 0:
			return fmt.Errorf("source %v holds nothing and is still there", a.netip())
		}
		held += s.held.Len(s.table)
		if s.retired != nil {
			retired += s.retired.Len(s.table)
			for port := range s.retired.All(s.table) {
				if !s.held.Contains(s.table, port) {
					return fmt.Errorf("port %d of source %v is retired and free", port, a.netip())
				}
			}
		}
		if s.taken != nil {
			others += s.taken.Len(s.table)
			for port := range s.taken.All(s.table) {
				if !s.held.Contains(s.table, port) || s.isRetired(port) {
					return fmt.Errorf("port %d of source %v is taken, and free or retired", port, a.netip())
				}
			}
		}
		isFull := s.held.Len(s.table) == s.table.Len() && s.number() < d.from.n
		if inSet := d.full.words.get(s.number()/64)>>(s.number()%64)&1 != 0; inSet != isFull {
			return fmt.Errorf("source %v full: %t, and in the set of the full ones: %t", a.netip(), isFull, inSet)
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
	case held != d.inUse+d.retired+d.taken || retired != d.retired || others != d.taken:
		return fmt.Errorf("counts %d in use, %d retired, %d taken; its sources hold %d, of which %d retired and %d taken",
			d.inUse, d.retired, d.taken, held, retired, others)
	case full != d.full.n || full != uint64(inSet):
		return fmt.Errorf("%d sources are full, counted %d, in the set %d", full, d.full.n, inSet)
	case d.turn >= max(1, d.from.n):
		return fmt.Errorf("it is the turn of source %d of %d", d.turn, d.from.n)
	case d.isWaitedFor() && pl.mayHoldMore(d.inUse+d.retired) && d.waiters.head().table == nil && d.waiters.head().src == (addr{}) && full != d.from.n:
		return fmt.Errorf("%d wait though only %d of %d sources are full", d.waiters.crowd.n, full, d.from.n)
	case d.waiters != nil:
		return d.waiters.check()
	}
	return nil
}

func (c *cooldown) check(sh *shard, st *state) error {
	if c.early != nil {
		return c.early.check(c.n, sh, st)
	}
	n, others := 0, 0
	for i, q := range c.queues {
		switch {
		case q.n == 0:
			return fmt.Errorf("an empty queue is among those that are not")
		case c.byDelay[q.kind].get(q.delay) != q:
			return fmt.Errorf("the queue of %v is not to be found", q.delay)
		case i > 0 && q.first().until < c.queues[(i-1)/2].first().until:
			return fmt.Errorf("queue %d comes free before its parent", i)
		case len(q.buf)&(len(q.buf)-1) != 0 || q.n > len(q.buf):
			return fmt.Errorf("a queue of %d in a buffer of %d", q.n, len(q.buf))
		case len(q.buf) > 4 && q.n < len(q.buf)/4:
			return fmt.Errorf("a queue of %d keeps a buffer of %d", q.n, len(q.buf))
		}
		n += q.n
		if q.kind == taken {
			others += q.n
		}
		for j := range q.n {
			r := q.at(j)
			if j > 0 && r.until < q.at(j-1).until {
				return fmt.Errorf("the queue of %v is out of order", q.delay)
			}
			at, found := sh.entries(r.key).find(r.key, r.key.hash(&st.seed))
			if !found || at.state(r.hold) != q.kind.state() {
				return fmt.Errorf("port %d is neither retired nor taken", r.hold.port())
			}
			if d := at.destination(); d != nil && d.next != 0 && d.next > r.until {
				return fmt.Errorf("port %d comes free at %d, and the first one at %d", r.hold.port(), r.until, d.next)
			}
		}
	}
	used := 0
	for k := range c.byDelay {
		idle := 0
		for _, q := range c.byDelay[k].m {
			if q.n == 0 {
				idle++
			}
		}
		if used += len(c.byDelay[k].m) - idle; idle > idleQueues {
			return fmt.Errorf("%d queues of kind %d are empty", idle, k)
		}
	}
	if n != c.n || others != c.taken || used != len(c.queues) {
		return fmt.Errorf("%d retired or taken, %d of them taken, counted %d and %d; %d queues, known %d", n, others, c.n, c.taken, len(c.queues), used)
	}
	return nil
}

// firstOf returns a port that s holds.
func firstOf(s *source) uint16 {
	for port := range s.held.All(s.table) {
		return port
	}
	return 0
}
