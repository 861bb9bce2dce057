package tuple

import (
	"slices"

	"github.com/ephemera-go/ephemera/internal/ports"
)

// span is the numbers of a block that has a port which a request asks for, and where they lie if those of all such
// blocks follow one another from 0.
type span struct{ begin, end, from uint64 }

// spans returns those of the live sources, and how many numbers they have in all.
func (s *sources) spans(wanted *ports.Allowed) (list []span, total uint64) {
	var table *ports.Allowed // of the last block
	meets := false
	for i := range s.blocks[:s.live] {
		b := &s.blocks[i]
		if b.table != table {
			table, meets = b.table, b.table.Meets(wanted)
		}
		if meets {
			list = append(list, span{b.begin, b.end, total})
			total += b.end - b.begin
		}
	}
	return list, total
}

// chooseFor is what Random and LeastUsed choose where the source that they began with has none of the ports that a
// asks for: among the sources that have one free. It fails if none has. It looks at all sources in use towards d.
func (d *destination) chooseFor(a *ask, pl *plan) (number uint64, ok bool) {
	spans, total := d.from.spans(a.table)
	var used, unfit numbers // of the numbers as they follow one another in spans
	least := -1
	for s := range d.all {
		i, in := slices.BinarySearchFunc(spans, s.number(), func(p span, n uint64) int {
			switch {
			case n < p.begin:
				return 1
			case n >= p.end:
				return -1
			}
			return 0
		})
		if !in {
			continue
		}
		at := spans[i].from + s.number() - spans[i].begin
		used.add(at)
		if !s.held.HasFreeIn(s.table, a.table) {
			unfit.add(at)
		} else if held := s.held.Len(s.table); least < 0 || held < least {
			number, least = s.number(), held
		}
	}
	free := &unfit
	if pl.policy == LeastUsed {
		if used.n == total {
			return number, least >= 0
		}
		free = &used // those not in use hold the least
	}
	if free.n == total {
		return 0, false
	}
	at := free.random(total, pl.rand)
	for _, p := range spans {
		if at < p.from+p.end-p.begin {
			return p.begin + at - p.from, true
		}
	}
	return 0, false
}
