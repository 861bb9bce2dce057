package ports

import (
	"math/bits"
	"sync/atomic"
)

// fewPorts is how many ports a few can have. A search through all of them takes 14 ns.
const fewPorts = 64

// few is a list of up to fewPorts ports, in no order. A word has four ports; 0 is a gap. A port never moves to another
// place. So a reader without the lock, which reads one word after another, finds each port that is in all the time.
type few struct {
	_      [0]atomic.Uint64 // aligns words on 32-bit machines
	words  [fewPorts / 4]uint64
	top    uint32 // the words from here on are 0
	n      int
	shared bool // others read words and top without the lock
}

// has reports whether port is in. It may be called without the lock if f is shared.
func (f *few) has(port uint16) bool { return port != 0 && f.find(port, atomic.LoadUint32(&f.top)) >= 0 }

// find returns the index of the word that has port, among the first top words, or -1 if none has it. Port 0 finds a
// gap.
func (f *few) find(port uint16, top uint32) int {
	for i := range f.words[:min(top, uint32(len(f.words)))] {
		if zeros(atomic.LoadUint64(&f.words[i])^uint64(port)*lanes) != 0 {
			return i
		}
	}
	return -1
}

// add adds port, which must not be in f. There must be room for it.
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

// remove removes port. It fails if port is not in f.
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

// clear removes all ports.
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

// zeros marks each lane of w that is 0 with its highest bit. The first mark is right; those above it may be wrong.
func zeros(w uint64) uint64 { return (w - lanes) &^ w & highBits }

// firstLane returns the lowest bit of the first marked lane.
func firstLane(marks uint64) int { return bits.TrailingZeros64(marks) - 15 }
