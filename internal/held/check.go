package held

import (
	"fmt"
	"math/bits"
	"slices"
)

// Check returns the first thing in the Table that contradicts another, for tests.
func (t *Table) Check(r *Rules) error {
	for _, f := range []*family{&t.v4, &t.v6} {
		if err := f.check(t, r); err != nil {
			return err
		}
	}
	return nil
}

func (f *family) check(t *Table, r *Rules) error {
	s := f.slots.Load()
	if s == nil {
		return nil
	}
	n, large := 0, 0
	for i := s.keyWords - 1; i < len(s.words); i += s.size {
		at := Place{f, s, i, s.words[i] != 0}
		if !at.found {
			if *at.slot() != (slot{}) || s.large != nil && s.largeAt(i).Load() != nil {
				return fmt.Errorf("empty slot %d has something in it: %x", i, *at.slot())
			}
			continue
		}
		key := at.Key()
		if found := t.Find(key, key.Hash(r.Hash)); !found.found || found.i != i || found.f != f {
			return fmt.Errorf("%v lies in slot %d and is not found there", key.Netip(), i)
		}
		n++
		err := at.slot().check(r.Sources(key), r)
		if d := at.large(); d != nil {
			large++
			err = d.check(r.Sources(key), r)
			if inUse, retired := at.slot().counts(); inUse+retired != 0 {
				err = fmt.Errorf("a large destination has cells in use: %x", *at.slot())
			}
		}
		if err != nil {
			return fmt.Errorf("%v: %w", key.Netip(), err)
		}
	}
	switch {
	case n != f.n || large != f.large:
		return fmt.Errorf("%d destinations, %d of them large; counted %d and %d", n, large, f.n, f.large)
	case 4*n > 3*s.n, s.n > minSlots && 4*n < s.n:
		return fmt.Errorf("%d destinations in %d slots", n, s.n)
	case f.seq.Load()%2 != 0:
		return fmt.Errorf("nothing moves, and the sequence is odd")
	}
	return nil
}

func (s *slot) check(from *Sources, r *Rules) error {
	inUse, retired := s.counts()
	switch {
	case s.isLarge():
		return nil
	case inUse+retired == 0:
		return fmt.Errorf("is idle and still there")
	case !r.cells:
		return fmt.Errorf("its tuples lie in cells: %x", *s)
	case s.peak() < inUse+retired:
		return fmt.Errorf("its peak is %d, and it holds %d", s.peak(), inUse+retired)
	case s.turnCell() >= cellCount:
		return fmt.Errorf("it is nobody's turn: %x", *s)
	}
	for j := range cellCount {
		h := s.cell(j)
		switch {
		case h.Port() == 0 && s.isRetired(j):
			return fmt.Errorf("cell %d is free and retired", j)
		case h.Port() == 0:
		case !from.table(h.Number()).Contains(h.Port()):
			return fmt.Errorf("cell %d holds port %d of source %d of %d", j, h.Port(), h.Number(), from.n)
		case s.find(h) != j:
			return fmt.Errorf("cells %d and %d hold the same", j, s.find(h))
		}
	}
	return nil
}

func (d *destination) check(from *Sources, r *Rules) error {
	held := d.inUse + d.retired
	switch {
	case d.from.n != from.n || !slices.Equal(d.from.blocks, from.blocks):
		return fmt.Errorf("has the sources of another family or of other rules")
	case d.peak < held || held == 0 && d.peak != 0:
		return fmt.Errorf("its peak is %d, and it holds %d", d.peak, held)
	case held <= 1 && d.taken == 0 && (held == 0 || r.cells && d.peak <= mostPeak):
		return fmt.Errorf("is large and holds %d", held)
	case d.turn >= max(1, d.from.n):
		return fmt.Errorf("it is the turn of source %d of %d", d.turn, d.from.n)
	}
	if d.first.named.Load() == 0 && d.first.held.Len() != 0 {
		return fmt.Errorf("its first source is not in use and holds ports")
	}
	for number, s := range d.others.All() {
		if number != s.number() || s.named.Load() == d.first.named.Load() {
			return fmt.Errorf("source %d lies where %d belongs", s.number(), number)
		}
	}
	all, retired, taken, full := 0, 0, 0, uint64(0)
	for s := range d.all {
		ofRetired, ofTaken, err := s.check(d)
		if err != nil {
			return fmt.Errorf("source %v: %w", d.from.At(s.number()).Netip(), err)
		}
		all, retired, taken = all+s.held.Len(), retired+ofRetired, taken+ofTaken
		if s.held.IsFull() && d.from.IsLive(s.number()) {
			full++
		}
	}
	inSet := 0
	for _, w := range d.full.words.All() {
		if w == 0 {
			return fmt.Errorf("the set of full sources keeps an empty word")
		}
		inSet += bits.OnesCount64(w)
	}
	switch {
	case all != held+d.taken || retired != d.retired || taken != d.taken:
		return fmt.Errorf("counts %d in use, %d retired, %d taken; its sources hold %d, %d of them retired, %d taken",
			d.inUse, d.retired, d.taken, all, retired, taken)
	case full != d.full.n || full != uint64(inSet):
		return fmt.Errorf("%d sources are full, counted %d, in the set %d", full, d.full.n, inSet)
	}
	return nil
}

// check also counts the ports that are retired and taken.
func (s *source) check(d *destination) (retired, taken int, err error) {
	for port := range s.held.All() {
		if h, _ := d.from.Find(d.from.At(s.number()), port); h != HoldOf(s.number(), port) {
			return 0, 0, fmt.Errorf("port %d of source %d belongs to source %d", port, s.number(), h.Number())
		}
		switch s.state(port) {
		case Retired:
			retired++
		case Taken:
			taken++
		}
	}
	switch isFull := s.held.IsFull() && d.from.IsLive(s.number()); {
	case s.held.Len() == 0:
		return 0, 0, fmt.Errorf("holds nothing and is still there")
	case d.full.has(s.number()) != isFull:
		return 0, 0, fmt.Errorf("full: %t, and in the set of the full ones: %t", isFull, !isFull)
	case s.retired != nil && s.retired.Len() != retired, s.taken != nil && s.taken.Len() != taken:
		return 0, 0, fmt.Errorf("a port is retired or taken, and free")
	}
	return retired, taken, nil
}

// Wrapped returns how many slots lie before their home, because the table ended, for tests.
func (t *Table) Wrapped(r *Rules) (n int) {
	for at := range t.All {
		if at.s.home(at.Key().Hash(r.Hash)) > at.i {
			n++
		}
	}
	return n
}

// SameHome reports whether IPv4 destinations with these hashes have the same home in a table that holds no others, for
// tests.
func SameHome(a, b uint64) bool {
	s := newSlots(minSlots, 1)
	return s.home(a) == s.home(b)
}
