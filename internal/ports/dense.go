package ports

import (
	"math/bits"
	"sync/atomic"
)

// dense has the free ports of a Space with many ports in use: one bit for each port, and counts of free ports per block
// and per group. A block has 8 words (512 ports), and a group has 8 blocks (4,096 ports). A word has four counts, so
// that one multiplication adds them up. 64,512 ports take 8,416 bytes.
const (
	blockWords = 8
	groupBits  = 64 * 8 * blockWords
	maxGroups  = 1 << 16 / groupBits
)

type dense struct {
	words  []uint64              // bit i: port base+i is free; whole blocks
	blocks []uint64              // free ports in each block; whole groups
	groups [maxGroups / 4]uint64 // free ports in each group
	n      int                   // free ports in total
	shared bool                  // others read words without the lock
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

// freeShared is free for a reader without the lock. It checks i, because the Space may have another table by now.
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

// flip is atomic only if others read without the lock, because it then takes 5 ns, and acquire and release flip once
// each.
func (d *dense) flip(i uint) {
	w := &d.words[i/64]
	if d.shared {
		atomic.StoreUint64(w, *w^1<<(i%64))
	} else {
		*w ^= 1 << (i % 64)
	}
}

// count adds n to the counts of the block and the group of bit i. If n is ^0, it subtracts 1.
func (d *dense) count(i uint, n uint64) {
	block, group := i/(64*blockWords), i/groupBits
	d.blocks[block/4] += n << (block % 4 * 16)
	d.groups[group/4%uint(len(d.groups))] += n << (group % 4 * 16)
}

// choose returns a free bit, each with the same probability. It uses the random number r, and if needed more from rand.
// There must be a free bit.
//
// If at least a quarter of the bits are free, it probes the four positions in r. A probe that hits is uniform over the
// free bits. If none hits, or if fewer bits are free, it draws a rank and looks for the free bit of that rank with the
// counts. That choice is uniform too, so the mixture is.
//
// It probes all four positions without a branch on each, because such a branch is mispredicted half of the time if half
// of the ports are in use, which takes 4 ns longer. The search with the counts takes 25 ns if 99 % of the ports are in
// use, and 35 ns at 90 %.
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

// probe returns 1 if bit i is free, and 0 if it is not free or past the end.
func (d *dense) probe(i uint64) uint64 {
	if i/64 < uint64(len(d.words)) {
		return d.words[i/64] >> (i % 64) & 1
	}
	return 0
}

// nth returns the free bit of rank r, which starts at 0. More than r bits must be free. It follows the counts without
// branches, because the counts are random, and each branch would be mispredicted half of the time.
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
	counts, second, r = half(
		ones(words[0], words[1], words[2], words[3]), ones(words[4], words[5], words[6], words[7]), r)
	k, r = lane(counts, r)
	word := second + k
	return (block*blockWords+word)*64 + nthBit(words[word%blockWords], r)
}

// A word has four lanes of 16 bits, each with a count.
const (
	lanes    = 0x0001_0001_0001_0001
	highBits = lanes << 15
)

// sums returns the running sums of four counts. They must be below 1<<16.
func sums(counts uint64) uint64 { return counts * lanes }

// lane returns the lane of item r of four counts, and the rank of the item in that lane. The sum of the counts must be
// greater than r, and at most 1<<14. The high bit of a lane survives the subtraction if r is past the end of its count.
func lane(counts, r uint64) (k uint, rest uint64) {
	ends := sums(counts)
	k = uint(bits.OnesCount64(((r*lanes | highBits) - ends) & highBits))
	return k, r - ends<<16>>(k*16)&0xffff
}

// half returns the word that has item r, out of two words of four counts, how many counts come before that word, and
// the rank of the item in it.
func half(first, second, r uint64) (counts uint64, before uint, rest uint64) {
	end := sums(first) >> 48
	past := atMost(end, r)
	return first ^ (first^second)&past, uint(past & 4), r - end&past
}

// ones counts the set bits of four words.
func ones(a, b, c, d uint64) uint64 {
	return uint64(bits.OnesCount64(a)) | uint64(bits.OnesCount64(b))<<16 |
		uint64(bits.OnesCount64(c))<<32 | uint64(bits.OnesCount64(d))<<48
}

// nthBit returns the position of the set bit of rank r in w, which starts at 0. More than r bits must be set. A loop is
// faster than halving, because few bits are set when choose calls nth.
func nthBit(w, r uint64) uint {
	for ; r > 0; r-- {
		w &= w - 1
	}
	return uint(bits.TrailingZeros64(w))
}

// atMost returns ^0 if a <= b, and 0 otherwise, without a branch. Both must be below 1<<63.
func atMost(a, b uint64) uint64 { return ^uint64(int64(b-a) >> 63) }

// below returns a number below n, each with exactly the same probability. It uses the random number r, and rarely more
// from rand. The algorithm is Lemire's multiplication with rejection (arXiv:1805.10941).
func below(n, r uint64, rand func() uint64) uint64 {
	hi, lo := bits.Mul64(r, n)
	if lo < n {
		for least := -n % n; lo < least; {
			hi, lo = bits.Mul64(rand(), n)
		}
	}
	return hi
}
