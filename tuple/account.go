package tuple

import (
	"iter"
	"net/netip"
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
	mu := sh.lock()
	defer mu.Unlock()
	pl := sh.plan.Load()
	h, ok := pl.find(key, &t)
	if !ok {
		return Foreign
	}
	sh.settle(pl)
	at, found := sh.entries(key).find(key, hash)
	if found {
		if state := at.state(h); state != Free {
			return state
		}
	}
	if pl.err == nil && pl.sources(key).handOut(h) {
		return Free
	}
	return Foreign
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
		var held []standing
		for i := range st.shards {
			held = st.shards[i].held(held[:0])
			for _, s := range held {
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

// held appends all that the shard holds.
func (sh *shard) held(list []standing) []standing {
	mu := sh.lock()
	defer mu.Unlock()
	pl := sh.plan.Load()
	sh.settle(pl)
	for at := range sh.all {
		list = at.appendHeld(list, pl)
	}
	return list
}

func (at place) appendHeld(list []standing, pl *plan) []standing {
	key := at.s.key(at.i)
	from := pl.sources(key)
	add := func(src addr, port uint16, state State) {
		list = append(list, standing{Tuple{src, key.addr(), port, key.port()}, state})
	}
	if d := at.destination(); d != nil {
		for s := range d.all {
			src := from.at(s.number())
			for port := range s.held.All(s.table) {
				add(src, port, s.state(port))
			}
		}
		return list
	}
	en := at.entry()
	for j := range laneCount {
		if h := en.lane(j); h.port() != 0 {
			add(from.at(h.number()), h.port(), at.state(h))
		}
	}
	return list
}

// HandsOut reports whether p hands out this port of a source address now, when it is free. The unspecified address of a
// family stands for every source of that family.
func (p *Pool) HandsOut(src netip.Addr, port uint16) bool {
	a := addrFrom(src)
	key := dstKey{last: 1 << 32} // any destination of the family
	if !a.is4() {
		key = dstKey{lo: 1}
	}
	pl := p.ready().shards[0].plan.Load()
	if !src.IsValid() || port == 0 || pl.err != nil {
		return false
	}
	from := pl.sources(key)
	if !from.any && !src.Unmap().IsUnspecified() {
		number, ok := from.liveNumber(a)
		return ok && from.table(number).Contains(port)
	}
	for i := range from.blocks[:from.live] {
		if from.blocks[i].table.Contains(port) {
			return true
		}
	}
	return false
}
