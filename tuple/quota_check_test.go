package tuple

import "fmt"

// check walks all that the quotas count. It needs the lock.
func (q *quota) check() error {
	held, retired, waiting := 0, 0, 0
	of, ofRetired := map[*owner]int{}, map[*owner]int{}
	for i := range q.shards {
		sh := &q.shards[i]
		held += sh.inUse + sh.cool.retired()
		retired += sh.cool.retired()
		waiting += sh.waiting
		for o, owner := range sh.owned.m {
			of[owner]++
			at, found := sh.entries(o.key).find(o.key, o.key.hash(sh.v4.seed))
			if !found || at.state(o.hold) != InUse && at.state(o.hold) != Retired {
				return fmt.Errorf("port %d towards %v has an owner, and is free or taken", o.hold.port(), o.key.netip())
			}
			if at.state(o.hold) == Retired {
				ofRetired[owner]++
			}
		}
	}
	ready, inLine := 0, 0
	for name, o := range q.owners.m {
		switch {
		case o.name != name || o.held != of[o] || o.retired != ofRetired[o]:
			return fmt.Errorf("owner %q holds %d, %d of them retired, counted %d and %d", name, of[o], ofRetired[o], o.held, o.retired)
		case o.held == 0 && o.line.isEmpty():
			return fmt.Errorf("owner %q holds nothing, waits for nothing and is still there", name)
		case o.held < q.perOwner && !o.line.isEmpty():
			ready++
			if o.at < 0 || q.ready[o.at] != o {
				return fmt.Errorf("owner %q could be served and is not ready", name)
			}
		case o.at >= 0:
			return fmt.Errorf("owner %q cannot be served and is ready", name)
		}
		for _, f := range o.line.flows {
			inLine += f.waiters.Len()
		}
		delete(of, o)
	}
	switch {
	case held != q.held || retired != q.rest || len(of) > 0:
		return fmt.Errorf("the quota counts %d held, %d of them retired, the shards %d and %d; %d owners are unknown", q.held, q.rest, held, retired, len(of))
	case len(q.ready) != ready || inLine != q.crowd.n || inLine > waiting:
		return fmt.Errorf("%d owners are ready, counted %d; %d of %d wait for the quotas, counted %d", len(q.ready), ready, inLine, waiting, q.crowd.n)
	case q.next() != nil:
		return fmt.Errorf("the quotas have room, and %q waits for them", q.ready[0].name)
	case q.awake != (q.crowd.n > 0):
		return fmt.Errorf("%d wait for the quotas, and the shards know otherwise", q.crowd.n)
	}
	return q.crowd.check()
}

func (l *line) check() error {
	for i, f := range l.flows {
		if f.line != l || f.at != i || i > 0 && f.arrival() < l.flows[(i-1)/2].arrival() {
			return fmt.Errorf("a line is out of order")
		}
	}
	return l.crowd.check()
}

func (c *crowd) check() error {
	of, n, most := map[string]int{}, 0, 0
	for f := range c.flows.m {
		n += f.waiters.Len()
		of[f.owner] += f.waiters.Len()
		most = max(most, of[f.owner])
	}
	for owner, count := range of {
		if c.of.get(owner) != count {
			return fmt.Errorf("%q has %d in line, counted %d", owner, count, c.of.get(owner))
		}
	}
	if n != c.n || most > c.most || len(of) != len(c.of.m) {
		return fmt.Errorf("%d of %d owners wait, counted %d of %d; the most is %d, not %d", n, len(of), c.n, len(c.of.m), most, c.most)
	}
	return nil
}
