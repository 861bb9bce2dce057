package held

import (
	"slices"

	"github.com/ephemera-go/ephemera/internal/ports"
)

// span is the numbers of a block that has a port which a request asks for, and where they lie if those of all such
// blocks follow one another from 0.
type span struct{ begin, end, from uint64 }

// spans returns those of the live sources, and how many numbers they have in all.
func (s *Sources) spans(wanted *ports.Allowed) (list []span, total uint64) {
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

// acquireFit is acquire under Random and LeastUsed for one that asks for some ports only. If the source that the policy
// chose has none of them, it chooses among those that have one.
func (d *destination) acquireFit(start uint64, a *Ask, r *Rules) (h Hold, ok bool) {
	if !d.full.has(start) {
		if h, ok = d.acquireFrom(start, a, r); ok {
			return h, true
		}
	}
	number, ok := d.chooseFit(a, r)
	if !ok {
		return 0, false
	}
	return d.acquireFrom(number, a, r)
}

// chooseFit returns the source that Random or LeastUsed chooses among those that have a free port which a asks for. It
// fails if none has. It looks at all sources in use.
func (d *destination) chooseFit(a *Ask, r *Rules) (number uint64, ok bool) {
	spans, total := d.from.spans(a.Ports)
	var used, unfit numbers          // of the numbers as they follow one another in spans
	least, ties := -1, []uint64(nil) // the fewest tuples of those with a free port, and which have so many
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
		if !s.held.HasFreeIn(a.Ports) {
			unfit.add(at)
		} else if held := s.held.Len(); least < 0 || held < least {
			least, ties = held, append(ties[:0], s.number())
		} else if held == least {
			ties = append(ties, s.number())
		}
	}
	closed := &unfit
	if r.Policy == LeastUsed {
		if used.n == total {
			if len(ties) == 0 {
				return 0, false
			}
			slices.Sort(ties) // so that it replays
			return ties[below(uint64(len(ties)), r.Rand())], true
		}
		closed = &used // those not in use hold the least
	}
	if closed.n == total {
		return 0, false
	}
	at := closed.random(total, r.Rand)
	for _, p := range spans {
		if at < p.from+p.end-p.begin {
			return p.begin + at - p.from, true
		}
	}
	return 0, false
}
