package held

import "sync/atomic"

// slot is what the hash table has of a destination: the last word of its Key with the meta bits, and the cells. A cell
// is a Hold. A cell without a port is free. A large destination has a structure of its own, and its cells are free.
//
// All of it is stored atomically, because a Look reads it without the lock. A Hold does not change its cell, and a cell
// is used only when all before it are.
type slot [1 + cellCount]uint64

// cellCount is how many tuples a slot has room for: with three words more than the Key it is half a cache line for
// IPv4.
const cellCount = 3

// The meta bits, below the Key in its last word.
const (
	metaBits    = 0xffff
	metaLarge   = 1 << 15
	metaRetired = 1 // <<j: the tuple in cell j is retired
	metaTurn    = cellCount
	metaTurns   = 3 << metaTurn // which cell, free or not, has the number of the source used last
	metaPeak    = metaTurn + 2
	metaPeaks   = mostPeak << metaPeak // the most tuples held at once since none was
)

// mostPeak is the highest peak that the meta bits have room for. A destination with a higher one stays large until it
// holds nothing.
const mostPeak = 1<<8 - 1

// metaNew is what a slot begins with, for its first tuple.
const metaNew = 1 << metaPeak

func (s *slot) setLast(w uint64)      { atomic.StoreUint64(&s[0], w) }
func (s *slot) setCell(j int, h Hold) { atomic.StoreUint64(&s[1+j], uint64(h)) }
func (s *slot) cell(j int) Hold       { return Hold(s[1+j]) }
func (s *slot) isLarge() bool         { return s[0]&metaLarge != 0 }
func (s *slot) isRetired(j int) bool  { return s[0]&(metaRetired<<j) != 0 }
func (s *slot) retire(j int)          { s.setLast(s[0] | metaRetired<<j) }
func (s *slot) reuse(j int)           { s.setLast(s[0] &^ (metaRetired << j)) }
func (s *slot) turnCell() int         { return int(s[0]&metaTurns) >> metaTurn }
func (s *slot) peak() int             { return int(s[0]&metaPeaks) >> metaPeak }

// find returns the cell of h, negative if it is in none.
func (s *slot) find(h Hold) int {
	for j := range cellCount {
		if s.cell(j) == h {
			return j
		}
	}
	return -1
}

// has is find for a reader without the lock. It has no branch, because which cell it is is hard to predict.
func (s *slot) has(h Hold) bool {
	return min(atomic.LoadUint64(&s[1])^uint64(h), atomic.LoadUint64(&s[2])^uint64(h),
		atomic.LoadUint64(&s[3])^uint64(h)) == 0
}

// turn returns the number of the source whose turn it is among n.
func (s *slot) turn(n uint64) uint64 {
	number := s.cell(s.turnCell()).Number() + 1
	if number >= n {
		return 0
	}
	return number
}

// freeCell returns the first free cell from j on, negative if there is none.
func (s *slot) freeCell(j int) int {
	for ; j < cellCount; j++ {
		if s.cell(j).Port() == 0 {
			return j
		}
	}
	return -1
}

// raised returns the last word with the peak that there is when cell j is used, which must be free. A cell is used only
// when all before it are, so that a cell that was never used before makes a new peak, and nothing else does.
func (s *slot) raised(j int) uint64 {
	if j >= s.peak() {
		return s[0] + 1<<metaPeak
	}
	return s[0]
}

// acquire uses the free cell j for a free port of a source, whose turn it was. A source has more ports than there are
// cells, so there is one.
func (s *slot) acquire(j int, number uint64, from *Sources, random uint64, rand func() uint64) Hold {
	last := s.raised(j)
	if from.n > 1 {
		last = last&^metaTurns | uint64(j)<<metaTurn
	}
	if last != s[0] { // seldom: storing it atomically takes longer than all else here
		s.setLast(last)
	}
	table := from.table(number)
	for {
		h := HoldOf(number, table.Draw(random, rand))
		if s.find(h) < 0 {
			s.setCell(j, h)
			return h
		}
		random = rand()
	}
}

// reserve puts h, which is not in, in the first free cell. If that is the one that tells whose turn it is, another free
// one has to tell it from now on. It fails if there is none.
func (s *slot) reserve(h Hold) bool {
	j := s.freeCell(0)
	if j < 0 {
		return false
	}
	last := s.raised(j)
	if j == s.turnCell() {
		other := s.freeCell(j + 1)
		if other < 0 {
			return false
		}
		s.setCell(other, s.cell(j))
		last = last&^metaTurns | uint64(other)<<metaTurn
	}
	s.setCell(j, h)
	if last != s[0] {
		s.setLast(last)
	}
	return true
}

// release frees cell j. It reports whether all cells are free now.
func (s *slot) release(j int) (idle bool) {
	s.setCell(j, s.cell(j)&^0xffff)
	if s.isRetired(j) {
		s.reuse(j)
	}
	return (s[1]|s[2]|s[3])&0xffff == 0
}

// counts returns how many tuples are in use and retired.
func (s *slot) counts() (inUse, retired int) {
	for j := range cellCount {
		switch {
		case s.cell(j).Port() == 0:
		case s.isRetired(j):
			retired++
		default:
			inUse++
		}
	}
	return inUse, retired
}
