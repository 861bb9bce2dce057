package tuple

import "fmt"

func (c *retirees) check(want int, sh *shard, st *state) error {
	queued := map[*retiree]bool{}
	for i, q := range c.queues {
		switch {
		case q.first == nil || q.last == nil:
			return fmt.Errorf("an empty queue is among those that are not")
		case q.at != i || c.byDelay[q.kind].get(q.delay) != q:
			return fmt.Errorf("the queue of %v is not to be found", q.delay)
		case i > 0 && q.first.until < c.queues[(i-1)/2].first.until:
			return fmt.Errorf("queue %d comes free before its parent", i)
		}
		var last *retiree
		for e := q.first; e != nil; last, e = e, e.later {
			switch {
			case e.queue != q || e.sooner != last:
				return fmt.Errorf("the links of the queue of %v do not fit", q.delay)
			case last != nil && last.until > e.until:
				return fmt.Errorf("the queue of %v is out of order", q.delay)
			}
			queued[e] = true
		}
		if q.last != last {
			return fmt.Errorf("the queue of %v ends elsewhere", q.delay)
		}
	}
	lined := 0
	for key, l := range c.lines.m {
		if l.key != key || l.oldest == nil {
			return fmt.Errorf("%v: its line is empty, or another's", key.netip())
		}
		at, found := sh.entries(key).find(key, key.hash(&st.seed))
		rank := map[*retiree]int{}
		var last *retiree
		for e := l.oldest; e != nil; last, e = e, e.newer {
			switch {
			case e.line != l || e.older != last:
				return fmt.Errorf("%v: the links of its line do not fit", key.netip())
			case !queued[e]:
				return fmt.Errorf("%v: port %d is in line and cools down for ever", key.netip(), e.hold.port())
			case !found || at.state(e.hold) != e.queue.kind.state():
				return fmt.Errorf("%v: port %d is neither retired nor taken", key.netip(), e.hold.port())
			}
			if d := at.destination(); d != nil {
				if d.next != 0 && d.next > e.until {
					return fmt.Errorf("port %d comes free at %d, and the first one at %d", e.hold.port(), e.until, d.next)
				}
				if e.queue.kind != taken && d.wants(e.hold, sh.plan.Load().quota) {
					return fmt.Errorf("%v: port %d is retired, and somebody waits for it", key.netip(), e.hold.port())
				}
			}
			rank[e] = len(rank)
			lined++
		}
		if l.newest != last {
			return fmt.Errorf("%v: its line ends elsewhere", key.netip())
		}
		if err := l.passed.check(l, rank, sh.plan.Load().sources(key)); err != nil {
			return fmt.Errorf("%v: %w", key.netip(), err)
		}
	}
	if lined != want || len(queued) != want {
		return fmt.Errorf("%d retired or taken, %d in lines, %d in queues", want, lined, len(queued))
	}
	for k := range c.byDelay {
		idle := 0
		for _, q := range c.byDelay[k].m {
			if q.first == nil {
				idle++
			}
		}
		if idle > idleQueues {
			return fmt.Errorf("%d queues of kind %d are empty", idle, k)
		}
	}
	return nil
}

// check holds if nothing that was passed by would do.
func (p *passes) check(l *retireeLine, rank map[*retiree]int, from *sources) error {
	if p == nil {
		return nil
	}
	if len(p.list) > mostPasses {
		return fmt.Errorf("%d kinds of request are remembered", len(p.list))
	}
	for _, s := range p.list {
		if s.last == nil {
			continue
		}
		if _, ok := rank[s.last]; !ok {
			return fmt.Errorf("passed by one that is not in line")
		}
		a := ask{src: s.src, table: s.table}
		for e := l.oldest; e != s.last.newer; e = e.newer {
			if e.queue.kind != taken && a.fits(e.hold, from) {
				return fmt.Errorf("passed by port %d, which would do", e.hold.port())
			}
		}
	}
	return nil
}

// wants reports whether somebody waits for h whom no quota stops.
func (d *destination) wants(h hold, q *quota) bool {
	if !d.isWaitedFor() {
		return false
	}
	for _, f := range d.waiters.flows {
		if f.first().fits(h, d.from) && (q == nil || q.stops(f.owner) == "") {
			return true
		}
	}
	return false
}
