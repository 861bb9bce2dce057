package held

import (
	"sync/atomic"

	"github.com/ephemera-go/ephemera/internal/ports"
	"github.com/ephemera-go/ephemera/internal/shrink"
)

// destination is what is held towards one large destination from each source. It lies under the caller's lock, except
// for what a Look reads.
type destination struct {
	from           *Sources // of its family
	inUse, retired int
	taken          int
	peak           int     // the most in use or retired at once since none was
	turn           uint64  // the number of the source whose turn it is
	full           numbers // the live sources without a free port

	used   numbers // the live sources in use, and
	levels *levels // how many tuples each holds: only under LeastUsed

	// Most destinations have one source in use. It lies here rather than in the map, where a Look can read it.
	first   source
	renamed atomic.Uint32               // how often another source became the first one
	others  shrink.Map[uint64, *source] // by number
}

func newDestination(key Key, r *Rules) *destination {
	d, ok := r.spares.destinations.Get().(*destination)
	if !ok {
		d = new(destination)
		d.first.held.Share()
		if r.Policy == LeastUsed {
			d.levels = new(levels)
		}
	}
	d.from = r.Sources(key)
	d.turn = r.firstTurn(d.from)
	return d
}

// free gives back the memory of d, which must hold nothing, and to which no slot may refer. A spare keeps its maps,
// which are empty and small by then.
func (d *destination) free(r *Rules) {
	d.from, d.peak = nil, 0
	r.spares.destinations.Put(d)
}

// acquire takes a free port as a asks for it, from the source whose turn it is or the next one that will do. It fails
// only if none will.
func (d *destination) acquire(a *Ask, r *Rules) (Hold, bool) {
	n := d.from.n
	if a.Src != (Addr{}) {
		number, ok := d.from.Live(a.Src)
		if !ok || d.full.has(number) {
			return 0, false
		}
		return d.acquireFrom(number, a, r)
	}
	if d.full.n == n {
		return 0, false
	}
	start := r.choose(a, d, nil)
	if a.Ports != nil && (r.Policy == Random || r.Policy == LeastUsed) {
		return d.acquireFit(start, a, r)
	}
	var table *ports.Allowed // of the last block
	meets := true            // whether it has a port that a asks for
	for number, left := start, n; ; {
		open := d.full.next(number, n)
		passed := open - number
		if open < number {
			passed += n
		}
		if passed >= left {
			return 0, false
		}
		left -= passed
		number = open
		step := uint64(1)
		if a.Ports != nil {
			b := d.from.block(number)
			if b.table != table {
				table, meets = b.table, b.table.Meets(a.Ports)
			}
			if !meets {
				step = b.end - number
			}
		}
		if meets {
			if h, ok := d.acquireFrom(number, a, r); ok {
				if d.turn = number + 1; d.turn == n {
					d.turn = 0
				}
				return h, true
			}
		}
		if step >= left {
			return 0, false
		}
		left -= step
		if number += step; number == n {
			number = 0
		}
	}
}

// acquireFrom takes a free port of one source that is not full. It fails if none will do.
func (d *destination) acquireFrom(number uint64, a *Ask, r *Rules) (Hold, bool) {
	s := d.source(number, r)
	var port uint16
	var ok bool
	if a.Ports == nil {
		port, ok = s.held.Acquire(a.Rand, r.Rand)
	} else {
		port, ok = s.held.AcquireIn(a.Ports, r.Rand)
	}
	if !ok {
		d.dropIfUnused(s, r)
		return 0, false
	}
	d.inUse++
	d.grown(s)
	return HoldOf(number, port), true
}

// reserve takes a tuple into use, which must be free.
func (d *destination) reserve(h Hold, r *Rules) {
	d.inUse++
	d.hold(h, r)
}

// hold makes a free tuple one that is held, which the caller has to count.
func (d *destination) hold(h Hold, r *Rules) {
	s := d.source(h.Number(), r)
	s.held.Reserve(h.Port())
	d.grown(s)
}

// grown enters in the books that s holds one port more.
func (d *destination) grown(s *source) {
	d.peak = max(d.peak, d.inUse+d.retired)
	if s.held.IsFull() && d.from.IsLive(s.number()) {
		d.full.add(s.number())
	}
	d.level(s)
}

// level keeps the levels right when s has come to hold one tuple more or fewer.
func (d *destination) level(s *source) {
	if d.levels != nil && d.from.IsLive(s.number()) {
		d.levels.moved(s)
	}
}

// retire makes a tuple in use a retired one.
func (d *destination) retire(h Hold) {
	s := d.find(h.Number())
	s.mark(&s.retired, h.Port())
	d.inUse--
	d.retired++
}

// take makes a tuple taken that is held, and not counted.
func (d *destination) take(h Hold) {
	s := d.find(h.Number())
	s.mark(&s.taken, h.Port())
	d.taken++
}

// reuse makes a retired or taken tuple one in use.
func (d *destination) reuse(h Hold) {
	s := d.find(h.Number())
	d.unmark(s, h.Port(), s.state(h.Port()))
	d.inUse++
	d.peak = max(d.peak, d.inUse+d.retired)
}

// unmark takes a tuple that stands as was says out of the counts, and out of those that are retired or taken.
func (d *destination) unmark(s *source, port uint16, was State) {
	switch was {
	case Retired:
		s.retired.Release(port)
		d.retired--
	case Taken:
		s.taken.Release(port)
		d.taken--
	default:
		d.inUse--
	}
}

// release frees a tuple of s that is held and stands as was says.
func (d *destination) release(s *source, port uint16, was State, r *Rules) {
	d.unmark(s, port, was)
	if s.held.IsFull() && d.from.IsLive(s.number()) {
		d.full.remove(s.number())
	}
	s.held.Release(port)
	d.level(s)
	d.dropIfUnused(s, r)
}

// state returns how a tuple stands.
func (d *destination) state(h Hold) State {
	s := d.find(h.Number())
	if s == nil || !s.held.Contains(h.Port()) {
		return Free
	}
	return s.state(h.Port())
}

// all yields the sources in use.
func (d *destination) all(yield func(*source) bool) {
	if d.first.named.Load() != 0 && !yield(&d.first) {
		return
	}
	for _, s := range d.others.All() {
		if !yield(s) {
			return
		}
	}
}

// find returns the source of this number, nil if nothing is held from there.
func (d *destination) find(number uint64) *source {
	if d.first.named.Load() == number+1 {
		return &d.first
	}
	return d.others.Get(number)
}

// source returns the source of this number, in use from now on.
func (d *destination) source(number uint64, r *Rules) *source {
	if s := d.find(number); s != nil {
		return s
	}
	s := &d.first
	if s.named.Load() != 0 {
		var ok bool
		if s, ok = r.spares.sources.Get().(*source); !ok {
			s = new(source)
		}
		d.others.Put(number, s)
	} else {
		d.renamed.Add(1) // before it is named and holds anything
	}
	s.held.Use(d.from.table(number))
	s.named.Store(number + 1)
	if d.levels != nil && d.from.IsLive(number) {
		d.used.add(number)
	}
	return s
}

func (d *destination) dropIfUnused(s *source, r *Rules) {
	if s.held.Len() > 0 {
		return
	}
	number := s.number()
	s.named.Store(0)
	if d.levels != nil && d.from.IsLive(number) {
		d.used.remove(number)
	}
	if s != &d.first {
		d.others.Delete(number)
		r.spares.sources.Put(s)
	}
}

// cells returns what a slot says of d, which must hold exactly one tuple.
func (d *destination) cells() (meta uint64, cells [cellCount]uint64) {
	for s := range d.all {
		for port := range s.held.All() {
			cells[0] = uint64(HoldOf(s.number(), port))
		}
	}
	last := d.turn - 1
	if d.turn == 0 {
		last = max(d.from.n, 1) - 1
	}
	cells[1] = uint64(HoldOf(last, 0))
	return 1<<metaTurn | uint64(d.retired) | uint64(d.peak)<<metaPeak, cells
}
