package held

import (
	"math/bits"

	"github.com/ephemera-go/ephemera/internal/shrink"
)

// numbers is a set of the numbers of sources. It is a bitset of which only the words that are not 0 exist, because the
// numbers of an IPv6 prefix are large.
type numbers struct {
	n     uint64
	words shrink.Map[uint64, uint64]
}

func (f *numbers) add(number uint64) {
	f.words.Put(number/64, f.words.Get(number/64)|1<<(number%64))
	f.n++
}

func (f *numbers) remove(number uint64) {
	f.n--
	if w := f.words.Get(number/64) &^ (1 << (number % 64)); w != 0 {
		f.words.Put(number/64, w)
	} else {
		f.words.Delete(number / 64)
	}
}

func (f *numbers) has(number uint64) bool { return f.words.Get(number/64)>>(number%64)&1 != 0 }

// next returns the first number from start on, around at n, that is not in f. There must be one below n.
func (f *numbers) next(start, n uint64) uint64 {
	if f.n == 0 {
		return start
	}
	word, open := start/64, ^uint64(0)<<(start%64)
	for {
		open &^= f.words.Get(word)
		if i := word*64 + uint64(bits.TrailingZeros64(open)); open != 0 && i < n {
			return i
		}
		word, open = word+1, ^uint64(0)
		if word*64 >= n {
			word = 0
		}
	}
}

// random returns a number below n that is not in f, each with the same probability. There must be one.
func (f *numbers) random(n uint64, rand func() uint64) uint64 {
	for range 8 {
		if number := below(n, rand()); !f.has(number) {
			return number
		}
	}
	// Most likely half of them or more are in f, so that n is no more than a small multiple of what f takes.
	rank := below(n-f.n, rand())
	for word := uint64(0); ; word++ {
		open := ^f.words.Get(word)
		if left := n - word*64; left < 64 {
			open &= 1<<left - 1
		}
		if count := uint64(bits.OnesCount64(open)); rank >= count {
			rank -= count
			continue
		}
		for ; rank > 0; rank-- {
			open &= open - 1
		}
		return word*64 + uint64(bits.TrailingZeros64(open))
	}
}
