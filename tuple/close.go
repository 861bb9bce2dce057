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
	next.err, next.plain = ErrClosed, false
	for i := range st.shards {
		sh := &st.shards[i]
		mu := sh.lock()
		sh.settle(old)
		sh.close(next)
		mu.Unlock()
	}
	return nil
}

// close goes over to the plan of a closed pool, and turns away those who wait.
func (sh *shard) close(pl *plan) {
	sh.plan.Store(pl)
	for at := range sh.all {
		if d := at.destination(); d != nil {
			d.from = pl.sources(d.key)
		}
	}
	for _, f := range sh.flows.m {
		a := f.first().ask
		f.fail(closedError)
		sh.reduce(&a, pl)
	}
}

func closedError(a *ask) error { return fmt.Errorf("tuple: acquire towards %v: %w", a.dst, ErrClosed) }
