package tuple

import "math/bits"

// fullSet is the numbers of the sources of a destination that have no free port: a bitset of which only the words that
// are not 0 exist, for the numbers of an IPv6 prefix are large.
type fullSet struct {
	n     uint64
	words shrinking[uint64, uint64]
}

func (f *fullSet) add(number uint64) {
	f.words.put(number/64, f.words.get(number/64)|1<<(number%64))
	f.n++
}

func (f *fullSet) remove(number uint64) {
	f.n--
	if w := f.words.get(number/64) &^ (1 << (number % 64)); w != 0 {
		f.words.put(number/64, w)
	} else {
		f.words.delete(number / 64)
	}
}

// next returns the first number from start on, going round at n, that is not in f. There must be one below n.
func (f *fullSet) next(start, n uint64) uint64 {
	if f.n == 0 {
		return start
	}
	word, open := start/64, ^uint64(0)<<(start%64)
	for {
		open &^= f.words.get(word)
		if i := word*64 + uint64(bits.TrailingZeros64(open)); open != 0 && i < n {
			return i
		}
		word, open = word+1, ^uint64(0)
		if word*64 >= n {
			word = 0
		}
	}
}
