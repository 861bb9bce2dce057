package tuple

import (
	"errors"
	"fmt"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/ports"
)

func (p *Pool) setPorts(set alloc.Set) error {
	if !p.Ports.IsZero() {
		return errors.New("tuple: SetPorts: Pool.Ports is set: leave it zero for ports that change")
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
	table := st.tables.of(set)
	return st.move(old, next, old.v4.withPorts(table), old.v6.withPorts(table), "SetPorts: the pool")
}

// withPorts returns the live sources, where those without ports of their own have these.
func (s *sources) withPorts(table *ports.Allowed) sources {
	next := sources{blocks: make([]sourceBlock, s.live), live: s.live, n: s.n, any: s.any}
	copy(next.blocks, s.blocks)
	for i := range next.blocks {
		if b := &next.blocks[i]; !b.own {
			b.table = table
		}
	}
	return next
}
