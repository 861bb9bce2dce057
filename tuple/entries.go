package tuple

import (
	"math/bits"
	"sync/atomic"
)

// entries is the destinations of one family in a shard: a hash table with linear probing, whose slots hold the few
// tuples that most destinations have. It is words without pointers, for the collector to pass over, and gives memory
// back as it empties.
//
// Changes need the shard's lock. Reads do not: what they look at is stored atomically, and those that saw it out of
// order, because an entry moved meanwhile, find seq changed.
type entries struct {
	slots atomic.Pointer[slots]
	seq   atomic.Uint64 // odd while entries move, or become or cease to be large; not when one is added
	seed  *seed
	n     int
	large int // how many have a destination of their own
}

// slots is the table of entries, replaced when it grows or shrinks. A slot is the words of its key, one for IPv4 and
// three for IPv6, the last of which has the meta bits too and is 0 if the slot is empty, and then the lanes: so 32 or
// 48 bytes. It goes by the index of that last word, which is where its entry begins.
type slots struct {
	words    []uint64
	n        int
	size     int                           // words in a slot
	keyWords int                           // of them
	large    []atomic.Pointer[destination] // of the large entries, by slot; nil while there is none
}

// A slot has this many lanes: three more words than the key make half a cache line for IPv4.
const laneCount = 3

// minSlots are kept when a shard is empty, so that a destination that comes and goes does not make a table each time.
const minSlots = 4

func newSlots(n, keyWords int) *slots {
	size := keyWords + laneCount
	return &slots{words: make([]uint64, n*size), n: n, size: size, keyWords: keyWords}
}

// home is where a hash would best lie. The shard took the lowest bits of the hash, this takes the highest.
func (s *slots) home(hash uint64) int {
	slot, _ := bits.Mul64(hash, uint64(s.n))
	return int(slot)*s.size + s.keyWords - 1
}

func (s *slots) next(i int) int {
	if i += s.size; i >= len(s.words) {
		i -= len(s.words)
	}
	return i
}

func (s *slots) at(i int) *entry { return (*entry)(s.words[i : i+1+laneCount]) }

func (s *slots) largeAt(i int) *atomic.Pointer[destination] { return &s.large[i/s.size] }

func (s *slots) key(i int) dstKey {
	last := s.words[i] &^ metaBits
	if s.keyWords == 1 {
		return dstKey{last: last}
	}
	return dstKey{s.words[i-2], s.words[i-1], last}
}

// find returns the slot of key, and if there is none an empty one where it can be added. It may be called without the
// lock.
func (s *slots) find(key dstKey, hash uint64) (i int, found bool) {
	i = s.home(hash)
	for range s.n {
		last := atomic.LoadUint64(&s.words[i])
		if last == 0 {
			break
		}
		if last&^metaBits == key.last && (s.keyWords == 1 || s.hasAddr(i, key)) {
			return i, true
		}
		i = s.next(i)
	}
	return i, false
}

func (s *slots) hasAddr(i int, key dstKey) bool {
	return atomic.LoadUint64(&s.words[i-2]) == key.hi && atomic.LoadUint64(&s.words[i-1]) == key.lo
}

// find returns the place of key. It may be called without the lock.
func (e *entries) find(key dstKey, hash uint64) (at place, found bool) {
	s := e.slots.Load()
	if s == nil {
		return place{}, false
	}
	i, found := s.find(key, hash)
	return place{e, s, i}, found
}

// add puts in an entry for key, which must not be in, with these lanes. The last word that it writes makes it one.
func (e *entries) add(key dstKey, hash, meta uint64, lanes [laneCount]uint64) place {
	s := e.slots.Load()
	if s == nil || 4*(e.n+1) > 3*s.n {
		keyWords := 1
		if key.is6() {
			keyWords = 3
		}
		s = e.resize(max(minSlots, 2*(e.n+1)), keyWords)
	}
	e.n++
	i, _ := s.find(key, hash)
	s.put(i, key, meta, lanes)
	return place{e, s, i}
}

func (s *slots) put(i int, key dstKey, meta uint64, lanes [laneCount]uint64) {
	en := s.at(i)
	for j, w := range lanes {
		if en[1+j] != w {
			en.setLane(j, hold(w))
		}
	}
	if s.keyWords > 1 {
		atomic.StoreUint64(&s.words[i-2], key.hi)
		atomic.StoreUint64(&s.words[i-1], key.lo)
	}
	en.setLast(key.last | meta)
}

// remove takes out an entry, and moves up those that another one kept from a better place.
func (e *entries) remove(at place) {
	s, i := at.s, at.i
	e.seq.Add(1)
	e.n--
	if s.at(i).isLarge() {
		s.largeAt(i).Store(nil)
		e.large--
	}
	for j := s.next(i); s.words[j] != 0; j = s.next(j) {
		key := s.key(j)
		home := s.home(key.hash(e.seed))
		if s.distance(home, j) < s.distance(i, j) {
			continue // it would lie before its home
		}
		en := s.at(j)
		s.put(i, key, en[0]&metaBits, [laneCount]uint64(en[1:]))
		if en.isLarge() {
			s.largeAt(i).Store(s.largeAt(j).Load())
			s.largeAt(j).Store(nil)
		}
		i = j
	}
	en := s.at(i)
	en.setLast(0)
	for j := range laneCount {
		if en[1+j] != 0 {
			en.setLane(j, 0)
		}
	}
	e.seq.Add(1)
	if s.n > minSlots && 4*e.n < s.n {
		e.resize(max(minSlots, 2*e.n), s.keyWords)
	}
}

// distance is how far it is from slot i to slot j, onwards.
func (s *slots) distance(i, j int) int {
	if j < i {
		j += len(s.words)
	}
	return j - i
}

// resize makes a table of n slots. A reader may go on with the one before, which stays as it is.
func (e *entries) resize(n, keyWords int) *slots {
	next := newSlots(n, keyWords)
	if e.large > 0 {
		next.large = make([]atomic.Pointer[destination], n)
	}
	if s := e.slots.Load(); s != nil {
		for i := keyWords - 1; i < len(s.words); i += s.size {
			en := s.at(i)
			if en[0] == 0 {
				continue
			}
			key := s.key(i)
			j, _ := next.find(key, key.hash(e.seed))
			next.put(j, key, en[0]&metaBits, [laneCount]uint64(en[1:]))
			if en.isLarge() {
				next.largeAt(j).Store(s.largeAt(i).Load())
			}
		}
	}
	e.slots.Store(next)
	return next
}
