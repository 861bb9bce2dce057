package tuple

import (
	"iter"
	"net/netip"

	"github.com/ephemera-go/ephemera/internal/held"
)

// State is the state of a tuple in a Pool: Foreign, Free, InUse, Retired or Taken.
type State uint8

// The states of a tuple.
const (
	// Foreign means that the Pool neither hands out nor holds the tuple.
	Foreign State = iota

	// Free means that an acquire may take the tuple.
	Free

	// InUse means that the tuple was acquired or reserved, and not yet given back.
	InUse

	// Retired means that the tuple cools down.
	Retired

	// Taken means that others have the tuple, such as another process, or that the kernel does not allow it. Only
	// package dialer makes tuples taken. They count in no quota.
	Taken
)

// String returns "foreign", "free", "in use", "cooling down" (for Retired) or "taken".
func (s State) String() string {
	switch s {
	case Free:
		return "free"
	case InUse:
		return "in use"
	case Retired:
		return "cooling down"
	case Taken:
		return "taken"
	}
	return "foreign"
}

// State returns the state of t. If the Pool is closed, or SetSources has drained the source of t, tuples that are in
// use, retired or taken keep their state, and all others are Foreign.
func (p *Pool) State(t Tuple) State {
	key := p.space(t.dst, t.dstPort)
	sh, hash := p.ready().shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	pl := sh.plan.Load()
	h, ok := pl.find(key, &t)
	if !ok {
		return Foreign
	}
	sh.settle(pl)
	state := sh.held.Find(key, hash).State(h)
	if state == held.Free && (pl.err != nil || !pl.Sources(key).HandsOut(h)) {
		return Foreign
	}
	return State(state)
}

// All yields the tuples that are in use, retired or taken, with their state, in no order. Without Sources their source
// is the unspecified address. Under Scope their destination is the one that Scope returned.
//
// Each destination is seen at one instant, but not all at the same instant. A tuple that is held all the time is
// yielded once. The loop may use the Pool, because no lock is held while it runs. All takes the 64 locks of the Pool
// one after the other, each for some 30 ns a tuple, and 48 bytes for each tuple under one lock.
func (p *Pool) All() iter.Seq2[Tuple, State] {
	return func(yield func(Tuple, State) bool) {
		st := p.ready()
		var list []standing
		for i := range st.shards {
			list = st.shards[i].standings(list[:0])
			for _, s := range list {
				if !yield(s.tuple, s.state) {
					return
				}
			}
		}
	}
}

// standing is a tuple and its state.
type standing struct {
	tuple Tuple
	state State
}

// standings appends all tuples that the shard holds.
func (sh *shard) standings(list []standing) []standing {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	pl := sh.plan.Load()
	sh.settle(pl)
	for at := range sh.held.All {
		key := at.Key()
		from := pl.Sources(key)
		for h, state := range at.Tuples {
			list = append(list, standing{Tuple{from.At(h.Number()), key.Addr(), h.Port(), key.Port()}, State(state)})
		}
	}
	return list
}

// handsOut reports whether p hands out this port of a source address now, if it is free. The unspecified address of a
// family stands for every source of that family.
func (p *Pool) handsOut(src netip.Addr, port uint16) bool {
	pl := p.ready().shards[0].plan.Load()
	if !src.IsValid() || port == 0 || pl.err != nil {
		return false
	}
	src = src.Unmap()
	from := &pl.V6
	if src.Is4() {
		from = &pl.V4
	}
	if from.Any() || src.IsUnspecified() {
		return from.HandOut(port)
	}
	h, ok := from.Find(held.AddrFrom(src), port)
	return ok && from.HandsOut(h)
}
