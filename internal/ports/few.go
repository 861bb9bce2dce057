package ports

import (
	"math/bits"
	"sync/atomic"
)

// fewPorts is how many ports are held without bits. To look through all of them takes 14 ns.
const fewPorts = 64

// few is up to fewPorts ports in no order, four to a word, 0 where none is. A port does not move while it is in: so a
// reader without the lock, who looks at one word after the other, misses none that is in all the while.
type few struct {
	_      [0]atomic.Uint64 // aligns words where a word of the machine has 32 bits
	words  [fewPorts / 4]uint64
	top    uint32 // the words from here on are 0
	n      int
	shared bool // words and top are read without the lock
}

// has reports whether port is in. It may be called without the lock if f is shared.
func (f *few) has(port uint16) bool { return port != 0 && f.find(port, atomic.LoadUint32(&f.top)) >= 0 }

// find returns in which of the first top words port lies or, for 0, a gap. It is negative if in none.
func (f *few) find(port uint16, top uint32) int {
	for i := range f.words[:min(top, uint32(len(f.words)))] {
		if zeros(atomic.LoadUint64(&f.words[i])^uint64(port)*lanes) != 0 {
			return i
		}
	}
	return -1
}

// add puts port in, which must not be in, and for which there must be room.
func (f *few) add(port uint16) {
	i := f.find(0, f.top)
	if i < 0 {
		i = int(f.top)
		f.setTop(f.top + 1)
	}
	w := f.words[i]
	f.store(i, w|uint64(port)<<firstLane(zeros(w)))
	f.n++
}

// remove takes port out. It fails if port is not in.
func (f *few) remove(port uint16) bool {
	i := f.find(port, f.top)
	if i < 0 || port == 0 {
		return false
	}
	w := f.words[i]
	f.store(i, w&^(0xffff<<firstLane(zeros(w^uint64(port)*lanes))))
	if f.n--; f.n == 0 && f.top > 1 {
		f.setTop(1)
	}
	return true
}

// clear takes all ports out.
func (f *few) clear() {
	for i := range f.top {
		f.store(int(i), 0)
	}
	f.n = 0
	f.setTop(0)
}

func (f *few) store(i int, w uint64) {
	if f.shared {
		atomic.StoreUint64(&f.words[i], w)
	} else {
		f.words[i] = w
	}
}

func (f *few) setTop(top uint32) {
	if f.shared {
		atomic.StoreUint32(&f.top, top)
	} else {
		f.top = top
	}
}

// zeros marks the four lanes of w that are 0 by their highest bits. Above the first one it may mark too many.
func zeros(w uint64) uint64 { return (w - lanes) &^ w & highBits }

// firstLane returns at which bit the first marked lane begins.
func firstLane(marks uint64) int { return bits.TrailingZeros64(marks) - 15 }
