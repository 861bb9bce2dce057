package held

import (
	"cmp"
	"slices"

	"github.com/ephemera-go/ephemera/internal/ports"
	"github.com/ephemera-go/ephemera/internal/shrink"
)

// WithPorts returns the live sources, where those without ports of their own have these.
func (s *Sources) WithPorts(table *ports.Allowed) *Sources {
	next := &Sources{any: s.any}
	for _, b := range s.blocks[:s.live] {
		if !b.own {
			b.table = table
		}
		next.add(b)
	}
	return next
}

// Keep drains the blocks of old that are not live in s, and from which something may be held: those that were live, and
// of the drained ones those in use. Blocks that stay keep their table, and with it what is held from there.
func (s *Sources) Keep(old *Sources, inUse []bool) {
	for i := range old.blocks {
		b := &old.blocks[(old.live+i)%len(old.blocks)] // the drained ones first: what they hold stays where it is
		if stays := s.liveBlock(b); stays != nil && stays.table.Equal(b.table) {
			stays.table = b.table
			continue
		}
		if drained := i < len(old.blocks)-old.live; !drained || inUse[i] {
			s.drain(*b)
		}
	}
}

// drain adds a block that is no longer live.
func (s *Sources) drain(b block) {
	begin := s.n
	if len(s.blocks) > s.live {
		begin = s.blocks[len(s.blocks)-1].end
	}
	s.blocks = append(s.blocks, block{b.first, begin, begin + b.end - b.begin, b.table, b.own})
}

// liveBlock returns the live block of the same addresses as b, nil if there is none.
func (s *Sources) liveBlock(b *block) *block {
	number, ok := s.Live(b.first)
	if !ok {
		return nil
	}
	same := s.block(number)
	if same.first != b.first || same.end-same.begin != b.end-b.begin {
		return nil
	}
	return same
}

// DrainedInUse notes for each drained block from which a tuple of the Table is held that it is in use. The lists are as
// long as there are such blocks.
func (t *Table) DrainedInUse(r *Rules, v4, v6 []bool) {
	for at := range t.All {
		from, inUse := &r.V4, v4
		if at.Key().Is6() {
			from, inUse = &r.V6, v6
		}
		for number := range at.Sources {
			if from.IsLive(number) {
				continue
			}
			for j := range inUse {
				b := &from.blocks[from.live+j]
				inUse[j] = inUse[j] || b.begin <= number && number < b.end
			}
		}
	}
}

// DrainedBlocks returns how many blocks are drained.
func (s *Sources) DrainedBlocks() int { return len(s.blocks) - s.live }

// Renumber returns what names the same address and port among other sources.
func Renumber(h Hold, was, is *Sources) Hold {
	number, _ := is.number(was.At(h.Number()), h.Port())
	return HoldOf(number, h.Port())
}

// Move makes the tuples of the Table those of other Rules, whose sources keep the old ones. It calls change at the
// instant from which a Look must use the other Rules.
func (t *Table) Move(old, next *Rules, change func()) {
	t.v4.seq.Add(1)
	t.v6.seq.Add(1)
	for at := range t.All {
		was, is := old.Sources(at.Key()), next.Sources(at.Key())
		if d := at.large(); d != nil {
			d.move(was, is, next)
		} else {
			at.slot().move(was, is)
		}
	}
	change()
	t.v4.seq.Add(1)
	t.v6.seq.Add(1)
	var large []Key // which may become small or go
	for at := range t.All {
		if at.large() != nil {
			large = append(large, at.Key())
		} else if !next.cells {
			at.f.enlarge(at, at.Key(), 0, next)
		}
	}
	for _, key := range large {
		at := t.Find(key, key.Hash(next.Hash))
		at.f.reduce(at, at.large(), next)
	}
}

// move renumbers the cells. The cell that says whose turn it is may be free, and its source gone.
func (s *slot) move(was, is *Sources) {
	for j := range cellCount {
		h := s.cell(j)
		if h.Port() != 0 {
			s.setCell(j, Renumber(h, was, is))
			continue
		}
		number, ok := is.Live(was.At(h.Number()))
		if !ok {
			number = 0 // that of a source, which the next move will look for
		}
		s.setCell(j, HoldOf(number, 0))
	}
}

// move renumbers the sources of a destination. Where a source is to have other ports, what it holds of them goes over
// to it, and the rest stays with a drained one.
func (d *destination) move(was, is *Sources, next *Rules) {
	var old []*source
	for s := range d.all {
		old = append(old, s)
	}
	slices.SortFunc(old, func(a, b *source) int { return cmp.Compare(a.number(), b.number()) }) // so that it replays
	d.from = is
	d.turn = next.firstTurn(is)
	d.others = shrink.Map[uint64, *source]{}
	d.full, d.used = numbers{}, numbers{}
	if d.levels != nil {
		d.levels = new(levels)
	}
	for _, s := range old {
		s.level = nil
		number := is.home(was.At(s.number()), s.held.Allowed())
		s.named.Store(number + 1)
		if s != &d.first {
			d.others.Put(number, s)
		}
		if !is.IsLive(number) {
			continue
		}
		if s.held.IsFull() {
			d.full.add(number)
		}
		if d.levels != nil {
			d.used.add(number)
			d.levels.moved(s)
		}
	}
	for _, s := range old {
		if !is.IsLive(s.number()) {
			d.moveOver(s, is.At(s.number()), next)
		}
	}
}

// home returns the number that an address and its table have: the live one if it has just these ports, else a drained
// one.
func (s *Sources) home(a Addr, table *ports.Allowed) uint64 {
	if number, ok := s.Live(a); ok && s.table(number) == table {
		return number
	}
	for i := range s.blocks[s.live:] {
		b := &s.blocks[s.live+i]
		if number, ok := b.find(a); ok && b.table == table {
			return number
		}
	}
	panic("held: a source that holds something was not kept")
}

// moveOver moves the ports of s, a drained source, that now belong to another.
func (d *destination) moveOver(s *source, was Addr, r *Rules) {
	for _, port := range slices.Collect(s.held.All()) {
		number, _ := d.from.number(was, port)
		if number == s.number() {
			continue
		}
		to := d.source(number, r)
		to.held.Reserve(port)
		switch s.state(port) {
		case Retired:
			s.retired.Release(port)
			to.mark(&to.retired, port)
		case Taken:
			s.taken.Release(port)
			to.mark(&to.taken, port)
		}
		s.held.Release(port)
		if to.held.IsFull() && d.from.IsLive(number) {
			d.full.add(number)
		}
		d.level(to)
	}
	d.dropIfUnused(s, r)
}
