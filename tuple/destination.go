package tuple

import (
	"container/list"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/ephemera-go/ephemera/internal/ports"
)

// destination is all that is known of one destination that its entry has no room for: what is held towards it from each
// source, and who waits. It lies under the lock of its shard, but for what a reader of its entry looks at without.
type destination struct {
	key            dstKey
	from           *sources // of its family
	inUse, retired int
	next           int64      // when the first of the retired comes free; 0 if that is not known
	turn           uint64     // the number of the source whose turn it is
	full           fullSet    // the sources without a free port
	waiters        *list.List // of *waiter, in order of arrival; nil if nobody ever waited

	// Most destinations have one source in use, which lies here rather than in the map, and can be read without the lock.
	first   source
	renamed atomic.Uint32              // how often another source became the first one
	others  shrinking[uint64, *source] // by number
}

// source is the port space of one source towards one destination.
type source struct {
	named   atomic.Uint64 // the number of the source, plus 1; 0 if it is not in use
	held    ports.Space   // in use or retired
	retired *ports.Space  // nil if none ever was
}

// spares keep destinations with a few more tuples than an entry has lanes, which come and go, from allocating, and sources
// where there are more of them than connections. A reader without the lock may still look at one that has become a spare,
// and at what its next user stores there, until it finds that the entry has changed.
type spares struct{ destinations, sources sync.Pool }

func newDestination(key dstKey, from *sources, pl *plan) *destination {
	d, ok := pl.spares.destinations.Get().(*destination)
	if !ok {
		d = new(destination)
		d.first.held.Share()
	}
	d.key, d.from = key, from
	d.turn = randomTurn(from)
	return d
}

// randomTurn is where a new destination begins, so that short-lived ones do not all leave from the first source.
func randomTurn(from *sources) uint64 {
	if from.n == 1 {
		return 0
	}
	return rand.Uint64N(from.n)
}

// free gives back the memory of d, which must hold nothing, and which no entry may refer to. A spare keeps its maps, which
// are empty and small by then.
func (d *destination) free(pl *plan) {
	d.from, d.next, d.waiters = nil, 0, nil
	pl.spares.destinations.Put(d)
}

// acquire takes a free port of the source whose turn it is, or of the next one that has any. It fails only when no source
// has.
func (d *destination) acquire(pl *plan, r uint64) (hold, bool) {
	n := d.from.n
	if d.full.n == n {
		return 0, false
	}
	number := d.full.next(d.turn, n)
	if d.turn = number + 1; d.turn == n {
		d.turn = 0
	}
	s := d.source(number, pl)
	port, _ := s.held.Acquire(pl.ports, r, pl.rand) // s is not full
	d.took(s, pl)
	return holdOf(number, port), true
}

// reserve takes this tuple, which must be free.
func (d *destination) reserve(h hold, pl *plan) {
	s := d.source(h.number(), pl)
	s.held.Reserve(pl.ports, h.port())
	d.took(s, pl)
}

// took enters in the books that a port of s was taken.
func (d *destination) took(s *source, pl *plan) {
	d.inUse++
	if s.held.Len(pl.ports) == pl.ports.Len() {
		d.full.add(s.number())
	}
}

// retire makes a tuple in use a retired one, until the given time.
func (d *destination) retire(h hold, until int64, pl *plan) {
	s := d.find(h.number())
	if s.retired == nil {
		s.retired = new(ports.Space)
	}
	s.retired.Reserve(pl.ports, h.port())
	d.inUse--
	d.retired++
	if d.next != 0 {
		d.next = min(d.next, until)
	}
}

// release frees a tuple that is in use or retired.
func (d *destination) release(h hold, pl *plan) {
	s := d.find(h.number())
	if s.isRetired(h.port(), pl) {
		s.retired.Release(pl.ports, h.port())
		d.retired--
		d.next = 0
	} else {
		d.inUse--
	}
	if s.held.Len(pl.ports) == pl.ports.Len() {
		d.full.remove(s.number())
	}
	s.held.Release(pl.ports, h.port())
	d.dropIfUnused(s, pl)
}

// isInUse reports whether the tuple is in use, as opposed to free or retired.
func (d *destination) isInUse(h hold, pl *plan) bool {
	return d.contains(h, pl) && !d.find(h.number()).isRetired(h.port(), pl)
}

func (d *destination) contains(h hold, pl *plan) bool {
	s := d.find(h.number())
	return s != nil && s.held.Contains(pl.ports, h.port())
}

// find returns the source of this number, nil if nothing is held from there.
func (d *destination) find(number uint64) *source {
	if d.first.named.Load() == number+1 {
		return &d.first
	}
	return d.others.get(number)
}

// source returns the source of this number, in use from now on.
func (d *destination) source(number uint64, pl *plan) *source {
	if s := d.find(number); s != nil {
		return s
	}
	s := &d.first
	if s.named.Load() != 0 {
		var ok bool
		if s, ok = pl.spares.sources.Get().(*source); !ok {
			s = new(source)
		}
		d.others.put(number, s)
	} else {
		d.renamed.Add(1) // before it is named and holds anything
	}
	s.named.Store(number + 1)
	return s
}

func (d *destination) dropIfUnused(s *source, pl *plan) {
	if s.held.Len(pl.ports) > 0 {
		return
	}
	number := s.number()
	s.named.Store(0)
	if s != &d.first {
		d.others.delete(number)
		pl.spares.sources.Put(s)
	}
}

func (d *destination) isWaitedFor() bool { return d.waiters != nil && d.waiters.Len() > 0 }

func (s *source) number() uint64 { return s.named.Load() - 1 }

func (s *source) isRetired(port uint16, pl *plan) bool {
	return s.retired != nil && s.retired.Contains(pl.ports, port)
}
