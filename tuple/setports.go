package tuple

import (
	"errors"
	"fmt"

	"github.com/ephemera-go/ephemera/alloc"
)

func (p *Pool) setPorts(set alloc.Set) error {
	if !p.Ports.IsZero() {
		return errors.New("tuple: SetPorts: Pool.Ports is set: leave it zero so that the ports can change")
	}
	if set.Len() == 0 {
		return errors.New("tuple: SetPorts: the set has no port")
	}
	st := p.ready()
	p.init.Lock() // one change at a time
	defer p.init.Unlock()
	old := st.shards[0].plan.Load()
	if old.err == ErrClosed {
		return fmt.Errorf("tuple: SetPorts: %w", ErrClosed)
	}
	if old.err != nil {
		return old.err
	}
	if set.Equal(old.ports) {
		return nil
	}
	next := new(plan)
	*next = *old
	next.ports = set
	table := tableOf(set)
	return st.move(old, next, old.V4.WithPorts(table), old.V6.WithPorts(table), "SetPorts: the pool")
}
