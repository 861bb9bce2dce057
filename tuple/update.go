package tuple

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ephemera-go/ephemera/internal/ports"
)

// SetSources replaces the sources of p, and which of their ports are handed out, while p is in use: it adds those
// that are new, goes on with those that stay, and drains those that are no longer listed. From a source that is
// drained, and of a port that is no longer a source's, nothing is handed out any more; what is held there lives on,
// is counted and found as before, and is free for good once it is given back. A source that is listed again, or gets
// a port back, goes on with what is still held. Whoever waits for what the new sources have gets it; whoever waits
// for what they have not waits on.
//
// It takes time in proportion to what p holds, and while it goes from one lock to the next, some destinations have
// the new sources and some the old ones. It fails, and changes nothing, if the list is one that Pool.Sources could
// not be, or if Pool.Sources is empty, which leaves the addresses to the operating system. An empty list drains all.
// HeldFrom tells when a source that was drained holds nothing any more.
func (p *Pool) SetSources(list ...Source) error {
	st := p.ready()
	p.init.Lock() // one at a time
	defer p.init.Unlock()
	old := st.shards[0].plan.Load()
	if old.err == ErrClosed {
		return fmt.Errorf("tuple: SetSources: %w", ErrClosed)
	}
	if old.err != nil {
		return old.err
	}
	if old.v4.any {
		return errors.New("tuple: SetSources on a Pool without Sources: it leaves the address to the operating system; make another Pool")
	}
	next := new(plan)
	*next = *old
	v4, v6, err := old.sourcesFrom("SetSources: sources", list, &st.tables)
	if err != nil {
		return err
	}
	return st.move(old, next, v4, v6, "SetSources: sources")
}

// move goes over to another plan with these sources, which do not have the drained ones yet. It fails, and changes
// nothing, if they are too many; the error calls them what.
func (st *state) move(old, next *plan, v4, v6 sources, what string) error {
	held4, held6 := st.drainedInUse(old)
	v4.keep(&old.v4, held4)
	v6.keep(&old.v6, held6)
	if err := v6.checkNumbers(what); err != nil {
		return err
	}
	next.setSources(v4, v6)
	for i := range st.shards {
		sh := &st.shards[i]
		mu := sh.lock()
		sh.move(old, next)
		mu.Unlock()
	}
	return nil
}

// keep drains the blocks of old that are not live in s, and which something may be held from: those that were live,
// and of the drained those in use. Blocks that stay keep their table, for which what is held from there is kept as
// well.
func (s *sources) keep(old *sources, inUse []bool) {
	for i := range old.blocks {
		b := &old.blocks[(old.live+i)%len(old.blocks)] // the drained come first: what they hold stays where it is
		if stays := s.liveBlock(b); stays != nil && stays.table.Equal(b.table) {
			stays.table = b.table
			continue
		}
		if drained := i < len(old.blocks)-old.live; !drained || inUse[i] {
			s.drain(*b)
		}
	}
}

// liveBlock returns the live block of the same addresses as b, nil if there is none.
func (s *sources) liveBlock(b *sourceBlock) *sourceBlock {
	number, ok := s.liveNumber(b.first)
	if !ok {
		return nil
	}
	same := s.block(number)
	if same.first != b.first || same.end-same.begin != b.end-b.begin {
		return nil
	}
	return same
}

// drainedInUse reports of each drained block whether something is held from there. None of them can become so later.
func (st *state) drainedInUse(pl *plan) (v4, v6 []bool) {
	v4, v6 = make([]bool, len(pl.v4.blocks)-pl.v4.live), make([]bool, len(pl.v6.blocks)-pl.v6.live)
	if len(v4)+len(v6) == 0 {
		return v4, v6
	}
	for i := range st.shards {
		sh := &st.shards[i]
		mu := sh.lock()
		sh.settle(pl)
		for at := range sh.all {
			key := at.s.key(at.i)
			from, inUse := &pl.v4, v4
			if key.is6() {
				from, inUse = &pl.v6, v6
			}
			for number := range at.numbers {
				if number >= from.n {
					for j := range inUse {
						b := &from.blocks[from.live+j]
						inUse[j] = inUse[j] || b.begin <= number && number < b.end
					}
				}
			}
		}
		mu.Unlock()
	}
	return v4, v6
}

// all yields the places of a shard's destinations. They may become large or small meanwhile, but none may come or go.
func (sh *shard) all(yield func(place) bool) {
	for _, e := range []*entries{&sh.v4, &sh.v6} {
		s := e.slots.Load()
		if s == nil {
			continue
		}
		for i := s.keyWords - 1; i < len(s.words); i += s.size {
			if s.words[i] != 0 && !yield(place{e, e.slots.Load(), i}) {
				return
			}
		}
	}
}

// numbers yields the sources from which something is held towards a destination. Some may come twice.
func (at place) numbers(yield func(uint64) bool) {
	d := at.destination()
	if d == nil {
		en := at.entry()
		for j := range laneCount {
			if h := en.lane(j); h.port() != 0 && !yield(h.number()) {
				return
			}
		}
		return
	}
	for s := range d.all {
		if !yield(s.number()) {
			return
		}
	}
}

// move makes the tuples of a shard those of another plan, and gives those who wait what that has for them.
func (sh *shard) move(old, next *plan) {
	sh.settle(old)
	sh.v4.seq.Add(1)
	sh.v6.seq.Add(1)
	for at := range sh.all {
		key := at.s.key(at.i)
		was, is := old.sources(key), next.sources(key)
		if d := at.destination(); d != nil {
			d.move(was, is, next)
		} else {
			at.entry().move(was, is)
		}
	}
	sh.cool.renumber(old, next)
	was := sh.owned.m
	sh.owned = shrinking[owned, *owner]{}
	for o, owner := range was {
		o.hold, _ = renumber(o.hold, old.sources(o.key), next.sources(o.key))
		sh.owned.put(o, owner)
	}
	sh.plan.Store(next)
	sh.v4.seq.Add(1)
	sh.v6.seq.Add(1)

	var waited []dstKey // where entries may come and go when those in line are served
	for at := range sh.all {
		d := at.destination()
		if d == nil {
			if !next.lanes {
				at.e.enlarge(at, next)
			}
			continue
		}
		if d.isWaitedFor() {
			waited = append(waited, d.key)
		} else {
			at.e.reduce(at, d, next)
		}
	}
	for _, key := range waited {
		sh.serveBoth(key, next) // under ReuseRetired, what was retired may have been somebody's who waits for a quota
	}
	if next.quota != nil {
		next.quota.serve()
	}
}

// renumber returns the hold of the same address and port.
func renumber(h hold, was, is *sources) (hold, bool) {
	number, ok := is.number(was.at(h.number()), h.port())
	return holdOf(number, h.port()), ok
}

// move renumbers the lanes. The lane that says whose turn it is may be free, and its source gone.
func (en *entry) move(was, is *sources) {
	for j := range laneCount {
		switch h := en.lane(j); {
		case h.port() != 0:
			h, _ = renumber(h, was, is)
			en.setLane(j, h)
		case j == peakLane && en.hasPeakLane():
		default:
			number, ok := is.liveNumber(was.at(h.number()))
			if !ok {
				number = 0 // that of a source, which the next move will look for
			}
			en.setLane(j, holdOf(number, 0))
		}
	}
}

// move renumbers the sources of a destination. Where a source is to have other ports, what it holds of them goes over
// to it, and the rest stays with a drained one.
func (d *destination) move(was, is *sources, next *plan) {
	old := make([]*source, 0, 1+len(d.others.m))
	for s := range d.all {
		old = append(old, s)
	}
	d.from = is
	d.turn = randomTurn(is)
	d.others = shrinking[uint64, *source]{}
	d.full, d.used = numbers{}, numbers{}
	if d.levels != nil {
		d.levels = new(levels)
	}
	for _, s := range old {
		s.level = nil
		number := is.home(was.at(s.number()), s.table)
		s.named.Store(number + 1)
		if s != &d.first {
			d.others.put(number, s)
		}
		if number >= is.n {
			continue
		}
		if s.isFull() {
			d.full.add(number)
		}
		if d.levels != nil {
			d.used.add(number)
			d.levels.moved(s)
		}
	}
	for _, s := range old {
		if s.number() >= is.n {
			d.moveOver(s, is.at(s.number()), next)
		}
	}
}

// home returns the number that an address and its table have: the live one if it has just these ports, else a drained
// one.
func (s *sources) home(a addr, table *ports.Allowed) uint64 {
	if number, ok := s.liveNumber(a); ok && s.table(number) == table {
		return number
	}
	for i := range s.blocks[s.live:] {
		b := &s.blocks[s.live+i]
		if number, ok := b.find(a); ok && b.table == table {
			return number
		}
	}
	panic("tuple: a source that holds something was not kept")
}

// moveOver moves the ports of s, a drained source, that now belong to another.
func (d *destination) moveOver(s *source, was addr, pl *plan) {
	for _, port := range slices.Collect(s.held.All(s.table)) {
		number, _ := d.from.number(was, port)
		if number == s.number() {
			continue
		}
		to := d.source(number, pl)
		to.held.Reserve(to.table, port)
		switch s.state(port) {
		case Retired:
			s.retired.Release(s.table, port)
			mark(&to.retired, to.table, port)
		case Taken:
			s.taken.Release(s.table, port)
			mark(&to.taken, to.table, port)
		}
		s.held.Release(s.table, port)
		if to.isFull() && number < d.from.n {
			d.full.add(number)
		}
		d.place(to)
	}
	d.dropIfUnused(s, pl)
}
