package held

import (
	"math/bits"
	"sync/atomic"
)

// slots is a hash table with linear probing, replaced when it grows or shrinks. It is words without pointers, which the
// garbage collector passes over. A destination has the words of its Key, one for IPv4 and three for IPv6, and then the
// cells: so 32 or 48 bytes. The last word of the Key has the meta bits too, and is 0 if the slot is empty. A slot goes
// by the index of that word, where its type slot begins.
type slots struct {
	words    []uint64
	n        int
	size     int                           // words of one slot
	keyWords int                           // of them
	large    []atomic.Pointer[destination] // of the large destinations, by slot; nil while there is none
}

// minSlots are kept when a table is empty, so that a destination that comes and goes does not make one each time.
const minSlots = 4

func newSlots(n, keyWords int) *slots {
	size := keyWords + cellCount
	return &slots{words: make([]uint64, n*size), n: n, size: size, keyWords: keyWords}
}

// home is where a hash would best lie. Which Table it is follows from the lowest bits of the hash, this from the
// highest.
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

// distance is how far it is from slot i on to slot j.
func (s *slots) distance(i, j int) int {
	if j < i {
		j += len(s.words)
	}
	return j - i
}

func (s *slots) at(i int) *slot { return (*slot)(s.words[i : i+1+cellCount]) }

func (s *slots) largeAt(i int) *atomic.Pointer[destination] { return &s.large[i/s.size] }

func (s *slots) key(i int) Key {
	last := s.words[i] &^ metaBits
	if s.keyWords == 1 {
		return Key{last: last}
	}
	return Key{s.words[i-2], s.words[i-1], last}
}

// find returns the slot of key, and if there is none an empty one where it can be added. It may be called without the
// lock.
func (s *slots) find(key Key, hash uint64) (i int, found bool) {
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

func (s *slots) hasAddr(i int, key Key) bool {
	return atomic.LoadUint64(&s.words[i-2]) == key.hi && atomic.LoadUint64(&s.words[i-1]) == key.lo
}

// put fills a slot. The last word that it writes makes it one that is found.
func (s *slots) put(i int, key Key, meta uint64, cells [cellCount]uint64) {
	to := s.at(i)
	for j, w := range cells {
		if to[1+j] != w {
			to.setCell(j, Hold(w))
		}
	}
	if s.keyWords > 1 {
		atomic.StoreUint64(&s.words[i-2], key.hi)
		atomic.StoreUint64(&s.words[i-1], key.lo)
	}
	to.setLast(key.last | meta)
}

// all yields the slots that are not empty. The loop may change what they say, but not add or remove any.
func (s *slots) all(yield func(i int) bool) {
	for i := s.keyWords - 1; i < len(s.words); i += s.size {
		if s.words[i] != 0 && !yield(i) {
			return
		}
	}
}
