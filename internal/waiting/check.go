package waiting

import "fmt"

// Check returns the first thing in the Hall that contradicts another, for tests.
func (h *Hall[C, A, O]) Check() error {
	n := 0
	for class, f := range h.flows.All() {
		n += f.waiters.Len()
		switch l := f.line; {
		case f.class != class || f.hall != h || f.waiters.Len() == 0:
			return fmt.Errorf("a flow of %d is another's", f.waiters.Len())
		case l.flows[f.at] != f:
			return fmt.Errorf("a flow of %d is not where it lies in its line", f.waiters.Len())
		}
		for e := f.waiters.Front(); e.Next() != nil; e = e.Next() {
			if e.Value.(*Waiter[C, A, O]).arrival >= e.Next().Value.(*Waiter[C, A, O]).arrival {
				return fmt.Errorf("a flow is out of order")
			}
		}
		if err := f.line.check(); err != nil {
			return err
		}
	}
	if n != h.n {
		return fmt.Errorf("%d wait, counted %d", n, h.n)
	}
	return nil
}

func (l *Line[C, A, O]) check() error {
	for i, f := range l.flows {
		if f.line != l || f.at != i {
			return fmt.Errorf("flow %d lies elsewhere", i)
		}
		if i > 0 && f.Before(l.flows[(i-1)/2]) {
			return fmt.Errorf("flow %d came before its parent", i)
		}
	}
	if len(l.skipped) > 0 {
		return fmt.Errorf("%d flows are skipped while nothing is offered", len(l.skipped))
	}
	return l.room.check()
}

func (r *Room[C, A, O]) check() error {
	n, of, with := 0, map[string]int{}, map[int]int{}
	for f := range r.flows.All() {
		n += f.waiters.Len()
		of[f.owner] += f.waiters.Len()
		if f.line.room != r {
			return fmt.Errorf("a flow waits in another room")
		}
	}
	for owner, count := range of {
		with[count]++
		if r.of.Get(owner) != count || count > r.most {
			return fmt.Errorf("owner %q has %d, counted %d, and nobody more than %d",
				owner, count, r.of.Get(owner), r.most)
		}
	}
	if n != r.n || r.of.Len() != len(of) {
		return fmt.Errorf("%d wait of %d owners, counted %d and %d", n, len(of), r.n, r.of.Len())
	}
	for count, owners := range r.with {
		if count > 0 && owners != with[count] {
			return fmt.Errorf("%d owners have %d, counted %d", with[count], count, owners)
		}
	}
	return nil
}
