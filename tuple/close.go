package tuple

import "fmt"

// Close stops p from handing out tuples. Every acquire fails with ErrClosed from now on. Acquire calls that wait return
// ErrClosed at once, and Reserve and SetSources fail. Tuples that are in use or retired are given back, cool down, and
// are found and counted as before. Closing a Pool again does nothing. The error is always nil.
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

// close puts the plan of a closed pool in force, and fails all waiters.
func (sh *shard) close(pl *plan) {
	sh.plan.Store(pl)
	sh.waits.Fail(func(a *asked) outcome { return outcome{err: closedError(&a.ask)} })
	sh.stopWake()
}

func closedError(a *ask) error {
	return fmt.Errorf("tuple: acquire: %w (towards %v)", ErrClosed, a.dst())
}
