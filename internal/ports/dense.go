package ports

import (
	"math/bits"
	"sync/atomic"
)

// The free ports of a well-filled Space, as bits with counts above them: a block is 8 words (512 ports), a group is 8
// blocks (4,096 ports). Counts lie four to a word, so that one multiplication sums them up. 64,512 ports take 8,416
// bytes.
const (
	blockWords = 8
	groupBits  = 64 * 8 * blockWords
	maxGroups  = 1 << 16 / groupBits
)

type dense struct {
	words  []uint64              // bit i: port base+i is free; whole blocks
	blocks []uint64              // free ports in each block; whole groups
	groups [maxGroups / 4]uint64 // free ports in each group
	n      int                   // free ports in all
	shared bool                  // words are read without the lock
}

func newDense(a *Allowed, shared bool) *dense {
	blocks := (len(a.words) + blockWords - 1) / blockWords
	d := &dense{
		words:  make([]uint64, blocks*blockWords),
		blocks: make([]uint64, (blocks+7)/8*2),
		n:      a.n,
		shared: shared,
	}
	copy(d.words, a.words)
	for i, w := range d.words {
		d.count(uint(i*64), uint64(bits.OnesCount64(w)))
	}
	return d
}

func (d *dense) free(i uint) bool { return d.words[i/64]>>(i%64)&1 != 0 }

// freeShared is free for a reader without the lock, whose Space may have come to hold the ports of another table.
func (d *dense) freeShared(i uint) bool {
	return i/64 < uint(len(d.words)) && atomic.LoadUint64(&d.words[i/64])>>(i%64)&1 != 0
}

func (d *dense) take(i uint) {
	d.flip(i)
	d.count(i, ^uint64(0))
	d.n--
}

func (d *dense) give(i uint) {
	d.flip(i)
	d.count(i, 1)
	d.n++
}

// flip is atomic only where somebody may look: that takes 5 ns, and an acquire and release are two of them.
func (d *dense) flip(i uint) {
	w := &d.words[i/64]
	if d.shared {
		atomic.StoreUint64(w, *w^1<<(i%64))
	} else {
		*w ^= 1 << (i % 64)
	}
}

// count adds n to the counts above bit i; ^0 takes one off.
func (d *dense) count(i uint, n uint64) {
	block, group := i/(64*blockWords), i/groupBits
	d.blocks[block/4] += n << (block % 4 * 16)
	d.groups[group/4%uint(len(d.groups))] += n << (group % 4 * 16)
}

// choose returns a free bit, each with the same probability, by the random number r and, if that does not do, more of
// them from rand. There must be a free bit.
//
// With a quarter free or more it probes the four positions that r gives, each of which is uniform over the free bits
// if it hits; if none does, and with less free, it counts its way to a free bit of random rank, which is uniform too:
// so the mixture is. All four are looked at, without a branch on each: that is mispredicted half of the time at 50 %
// full, and costs 4 ns more. Counting takes 25 ns at 99 % full and 35 at 90 %.
func (d *dense) choose(mask, r uint64, rand func() uint64) uint {
	if 4*d.n >= 64*len(d.words) {
		hits := d.probe(r&mask) | d.probe(r>>16&mask)<<1 | d.probe(r>>32&mask)<<2 | d.probe(r>>48&mask)<<3
		if hits != 0 {
			return uint(r >> (bits.TrailingZeros64(hits) * 16) & mask)
		}
		r = rand()
	}
	return d.nth(below(uint64(d.n), r, rand))
}

// probe returns 1 if bit i is free and 0 if it is not, or past the end.
func (d *dense) probe(i uint64) uint64 {
	if i/64 < uint64(len(d.words)) {
		return d.words[i/64] >> (i % 64) & 1
	}
	return 0
}

// nth returns the r-th free bit, from 0. There must be more than r. It goes down the counts without a branch on them:
// they are random, so each would be mispredicted half of the time.
func (d *dense) nth(r uint64) uint {
	end0 := sums(d.groups[0]) >> 48
	end1 := end0 + sums(d.groups[1])>>48
	end2 := end1 + sums(d.groups[2])>>48
	past0, past1, past2 := atMost(end0, r), atMost(end1, r), atMost(end2, r)
	r -= end0&past0 + (end1-end0)&past1 + (end2-end1)&past2
	quarter := uint(past0&1 + past1&1 + past2&1)

	k, r := lane(d.groups[quarter], r)
	group := quarter*4 + k

	blocks := (*[2]uint64)(d.blocks[group*2:])
	counts, second, r := half(blocks[0], blocks[1], r)
	k, r = lane(counts, r)
	block := group*8 + second + k

	words := (*[blockWords]uint64)(d.words[block*blockWords:])
	counts, second, r = half(ones(words[0], words[1], words[2], words[3]), ones(words[4], words[5], words[6], words[7]), r)
	k, r = lane(counts, r)
	word := second + k
	return (block*blockWords+word)*64 + nthBit(words[word%blockWords], r)
}

// Four counts in a word.
const (
	lanes    = 0x0001_0001_0001_0001
	highBits = lanes << 15
)

// sums returns the running sums of four counts, which must stay below 1<<16.
func sums(counts uint64) uint64 { return counts * lanes }

// lane returns in which of four counts the r-th lies, and as which of that one. They must add up to more than r, and
// to at most 1<<14. A lane's high bit survives the subtraction if r is past the end of its count.
func lane(counts, r uint64) (k uint, rest uint64) {
	ends := sums(counts)
	k = uint(bits.OnesCount64(((r*lanes | highBits) - ends) & highBits))
	return k, r - ends<<16>>(k*16)&0xffff
}

// half returns in which of two words of four counts the r-th lies, how many counts come before that word, and as
// which of it.
func half(first, second, r uint64) (counts uint64, before uint, rest uint64) {
	end := sums(first) >> 48
	past := atMost(end, r)
	return first ^ (first^second)&past, uint(past & 4), r - end&past
}

// ones returns how many ones there are in each of four words, as counts.
func ones(a, b, c, d uint64) uint64 {
	return uint64(bits.OnesCount64(a)) | uint64(bits.OnesCount64(b))<<16 |
		uint64(bits.OnesCount64(c))<<32 | uint64(bits.OnesCount64(d))<<48
}

// nthBit returns the position of the r-th set bit of w, from 0. There must be more than r. Where few bits are set, as
// they are where choose comes here, a loop is faster than halving.
func nthBit(w, r uint64) uint {
	for ; r > 0; r-- {
		w &= w - 1
	}
	return uint(bits.TrailingZeros64(w))
}

// atMost returns all ones if a <= b and 0 otherwise, without a branch. Both must be below 1<<63.
func atMost(a, b uint64) uint64 { return ^uint64(int64(b-a) >> 63) }

// below returns a number below n, each exactly equally likely, by the random number r and, seldom, more of them from
// rand: Lemire's multiplication with rejection.
func below(n, r uint64, rand func() uint64) uint64 {
	hi, lo := bits.Mul64(r, n)
	if lo < n {
		for least := -n % n; lo < least; {
			hi, lo = bits.Mul64(rand(), n)
		}
	}
	return hi
}
