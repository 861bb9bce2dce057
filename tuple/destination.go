package tuple

import (
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
	taken          int     // tuples that others have
	peak           int     // the most in use or retired at once since nothing was
	next           int64   // when the first of the retired or taken comes free, never if none has a time; 0 if not known
	turn           uint64  // the number of the source whose turn it is
	full           numbers // the sources without a free port
	waiters        *line   // who waits for it; nil if nobody ever did

	used   numbers // the sources in use, and
	levels *levels // how many tuples each holds: only under LeastUsed

	// Most destinations have one source in use, which lies here rather than in the map, and can be read without the lock.
	first   source
	renamed atomic.Uint32              // how often another source became the first one
	others  shrinking[uint64, *source] // by number
}

// source is the port space of one source towards one destination.
type source struct {
	named   atomic.Uint64  // the number of the source, plus 1; 0 if it is not in use
	table   *ports.Allowed // of its ports
	level   *level         // in which it lies under LeastUsed, nil if in none, and
	at      int            // where in it
	held    ports.Space    // in use, retired or taken
	retired *ports.Space   // nil if none ever was
	taken   *ports.Space   // nil if none ever was
}

// spares keep destinations with a few more tuples than an entry has lanes, which come and go, from allocating, and
// sources where there are more of them than connections. A reader without the lock may still look at one that has
// become a spare, and at what its next user stores there, until it finds that the entry has changed.
type spares struct{ destinations, sources sync.Pool }

func newDestination(key dstKey, from *sources, pl *plan) *destination {
	d, ok := pl.spares.destinations.Get().(*destination)
	if !ok {
		d = new(destination)
		d.first.held.Share()
		if pl.policy == LeastUsed {
			d.levels = new(levels)
		}
	}
	d.key, d.from = key, from
	d.turn = randomTurn(from)
	return d
}

// randomTurn is where a new destination begins, so that short-lived ones do not all leave from the first source.
func randomTurn(from *sources) uint64 {
	if from.n <= 1 {
		return 0
	}
	return rand.Uint64N(from.n)
}

// free gives back the memory of d, which must hold nothing, and which no entry may refer to. A spare keeps its maps,
// which are empty and small by then.
func (d *destination) free(pl *plan) {
	d.from, d.next, d.waiters, d.peak = nil, 0, nil, 0
	pl.spares.destinations.Put(d)
}

// acquire takes a free port of the source whose turn it is, or of the next one that has any. It fails only when no
// source has.
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
	port, _ := s.held.Acquire(s.table, r, pl.rand) // s is not full
	d.took(s)
	return holdOf(number, port), true
}

// acquireFor takes a free port as a asks for it, from the source start or the next one that will do. It fails only if
// none will.
func (d *destination) acquireFor(a *ask, start uint64, pl *plan) (hold, bool) {
	n := d.from.n
	if a.src != (addr{}) {
		number, ok := d.from.liveNumber(a.src)
		if !ok {
			return 0, false
		}
		return d.takeFrom(number, a.table, pl)
	}
	if d.full.n == n {
		return 0, false
	}
	if a.table != nil && (pl.policy == Random || pl.policy == LeastUsed) {
		if h, ok := d.takeFrom(start, a.table, pl); ok {
			return h, true
		}
		number, ok := d.chooseFor(a, pl)
		if !ok {
			return 0, false
		}
		return d.takeFrom(number, a.table, pl)
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
		b := d.from.block(number)
		if a.table != nil && b.table != table {
			table, meets = b.table, b.table.Meets(a.table)
		}
		if !meets {
			step = b.end - number
		} else if h, ok := d.takeFrom(number, a.table, pl); ok {
			if d.turn = number + 1; d.turn == n {
				d.turn = 0
			}
			return h, true
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

// takeFrom takes a free port of one source that is also in the table, unless that is nil. It fails if there is none.
func (d *destination) takeFrom(number uint64, table *ports.Allowed, pl *plan) (hold, bool) {
	if d.full.has(number) {
		return 0, false
	}
	s := d.source(number, pl)
	var port uint16
	var ok bool
	if table == nil {
		port, ok = s.held.Acquire(s.table, pl.rand(), pl.rand)
	} else {
		port, ok = s.held.AcquireIn(s.table, table, pl.rand)
	}
	if !ok {
		d.dropIfUnused(s, pl)
		return 0, false
	}
	d.took(s)
	return holdOf(number, port), true
}

// reserve takes this tuple, which must be free.
func (d *destination) reserve(h hold, pl *plan) {
	s := d.source(h.number(), pl)
	s.held.Reserve(s.table, h.port())
	d.took(s)
}

// took enters in the books that a port of s was taken into use.
func (d *destination) took(s *source) {
	d.inUse++
	d.peak = max(d.peak, d.inUse+d.retired)
	d.isHeld(s)
}

// hold makes a free tuple one that is held, which the caller has to count.
func (d *destination) hold(h hold, pl *plan) {
	s := d.source(h.number(), pl)
	s.held.Reserve(s.table, h.port())
	d.isHeld(s)
}

// isHeld enters in the books that one more port of s is no longer free.
func (d *destination) isHeld(s *source) {
	if s.isFull() && s.number() < d.from.n {
		d.full.add(s.number())
	}
	d.place(s)
}

// place keeps the levels right when s has come to hold one tuple more or fewer.
func (d *destination) place(s *source) {
	if d.levels != nil && s.number() < d.from.n {
		d.levels.moved(s)
	}
}

// retire makes a tuple in use a retired one, until the given time.
func (d *destination) retire(h hold, until int64) {
	s := d.find(h.number())
	mark(&s.retired, s.table, h.port())
	d.inUse--
	d.retired++
	d.comesFree(until)
}

// comesFree notes that a tuple comes free at the given time.
func (d *destination) comesFree(at int64) {
	if d.next != 0 {
		d.next = min(d.next, at)
	}
}

// mark puts a port in a set that is made when it is first needed.
func mark(set **ports.Space, table *ports.Allowed, port uint16) {
	if *set == nil {
		*set = new(ports.Space)
	}
	(*set).Reserve(table, port)
}

// release frees a tuple that is in use, retired or taken, and returns which of these it was.
func (d *destination) release(h hold, pl *plan) (was State) {
	s := d.find(h.number())
	was = InUse
	switch {
	case s.isRetired(h.port()):
		s.retired.Release(s.table, h.port())
		d.retired--
		d.next, was = 0, Retired
	case s.isTaken(h.port()):
		s.taken.Release(s.table, h.port())
		d.taken--
		d.next, was = 0, Taken
	default:
		d.inUse--
	}
	if s.isFull() && s.number() < d.from.n {
		d.full.remove(s.number())
	}
	s.held.Release(s.table, h.port())
	d.place(s)
	d.dropIfUnused(s, pl)
	return was
}

// isInUse reports whether the tuple is in use, as opposed to free, retired or taken.
func (d *destination) isInUse(h hold) bool {
	s := d.find(h.number())
	return s != nil && s.held.Contains(s.table, h.port()) && !s.isRetired(h.port()) && !s.isTaken(h.port())
}

func (d *destination) contains(h hold) bool {
	s := d.find(h.number())
	return s != nil && s.held.Contains(s.table, h.port())
}

// all yields the sources in use.
func (d *destination) all(yield func(*source) bool) {
	if d.first.named.Load() != 0 && !yield(&d.first) {
		return
	}
	for _, s := range d.others.m {
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
	s.table = d.from.table(number)
	s.named.Store(number + 1)
	if d.levels != nil && number < d.from.n {
		d.used.add(number)
	}
	return s
}

func (d *destination) dropIfUnused(s *source, pl *plan) {
	if s.held.Len(s.table) > 0 {
		return
	}
	number := s.number()
	s.named.Store(0)
	if d.levels != nil && number < d.from.n {
		d.used.remove(number)
	}
	if s != &d.first {
		d.others.delete(number)
		pl.spares.sources.Put(s)
	}
}

func (d *destination) isWaitedFor() bool { return d.waiters != nil && d.waiters.crowd.n > 0 }

// line is where those wait who wait for d.
func (d *destination) line() *line {
	if d.waiters == nil {
		d.waiters = &line{crowd: new(crowd)}
	}
	return d.waiters
}

func (s *source) number() uint64 { return s.named.Load() - 1 }

func (s *source) isFull() bool { return s.held.Len(s.table) == s.table.Len() }

// state is how a port stands that is held.
func (s *source) state(port uint16) State {
	switch {
	case s.isRetired(port):
		return Retired
	case s.isTaken(port):
		return Taken
	}
	return InUse
}

func (s *source) isTaken(port uint16) bool { return s.taken != nil && s.taken.Contains(s.table, port) }

func (s *source) isRetired(port uint16) bool {
	return s.retired != nil && s.retired.Contains(s.table, port)
}
