package tuple

import (
	"iter"
	"net/netip"

	"github.com/ephemera-go/ephemera/internal/held"
)

// State is how a tuple stands in a Pool.
type State uint8

// The states of a tuple.
const (
	Foreign State = iota // not one that the Pool hands out, nor holds
	Free
	InUse
	Retired // it cools down
	Taken   // the kernel has it for something else, such as another process, or may not give it; it is in nobody's quota
)

// String returns the state in lower case: "in use".
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

// State returns how t stands. Of a source that SetSources has drained, a tuple that is in use, retired or taken stays
// so, and every other is foreign. Of a closed Pool it is the same.
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

// All ranges over the tuples that are in use, retired or taken, with their state, in no order. Without Sources their
// source is the unspecified address; under Scope their destination is the space that it is mapped to.
//
// What is held towards one destination is seen at one instant, but not all destinations at the same: it is no
// snapshot of the Pool. A tuple that is held all the time comes once. No lock is held while the loop runs, which may
// use the Pool. It takes the 64 locks of the Pool one after the other, each for some 30 ns a tuple, and 48 bytes for
// each tuple under one of them.
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

// standing is a tuple, and how it stands.
type standing struct {
	tuple Tuple
	state State
}

// standings appends all that the shard holds.
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

// handsOut reports whether p hands out this port of a source address now, when it is free. The unspecified address of a
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
