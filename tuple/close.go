package tuple

import "fmt"

// Close has the Pool hand out nothing any more: every acquire fails with ErrClosed from now on, and so do those who
// wait, at once. What is in use or retired is given back, cools down, is found and counted as before. The error is
// always nil. Closing a Pool again does nothing.
func (p *Pool) Close() error {
	st := p.ready()
	p.init.Lock()
	defer p.init.Unlock()
	old := st.shards[0].plan.Load()
	if old.err == ErrClosed {
		return nil
	}
	next := new(plan)
	*next = *old
	next.err = ErrClosed
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		sh.settle(old)
		sh.close(next)
		sh.mu.Unlock()
	}
	return nil
}

// close goes over to the plan of a closed pool, and turns away those who wait.
func (sh *shard) close(pl *plan) {
	sh.plan.Store(pl)
	sh.waits.Fail(func(a *asked) outcome { return outcome{err: closedError(&a.ask)} })
	sh.stopWake()
}

func closedError(a *ask) error {
	return fmt.Errorf("tuple: acquire towards %v: %w", a.dst(), ErrClosed)
}
