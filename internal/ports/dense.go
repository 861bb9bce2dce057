package ports

import "math/bits"

// The free ports of a well-filled Space, as bits with counts above them: a block is 8 words (512 ports), a group is 64
// words (4,096 ports). 64,512 ports take 8,440 bytes.
const (
	blockWords = 8
	groupWords = 64
	maxGroups  = 1 << 16 / 64 / groupWords
)

type dense struct {
	words  []uint64 // bit i: port base+i is free
	blocks []uint16 // free ports in each block
	groups [maxGroups]uint16
	n      int // free ports in all
}

func newDense(a *Allowed) *dense {
	d := &dense{
		words:  make([]uint64, len(a.words)),
		blocks: make([]uint16, (len(a.words)+blockWords-1)/blockWords),
		n:      a.n,
	}
	copy(d.words, a.words)
	for i, w := range d.words {
		d.blocks[i/blockWords] += uint16(bits.OnesCount64(w))
		d.groups[i/groupWords] += uint16(bits.OnesCount64(w))
	}
	return d
}

func (d *dense) free(i uint) bool { return d.words[i/64]>>(i%64)&1 != 0 }

func (d *dense) take(i uint) {
	d.words[i/64] &^= 1 << (i % 64)
	d.blocks[i/64/blockWords]--
	d.groups[i/64/groupWords]--
	d.n--
}

func (d *dense) give(i uint) {
	d.words[i/64] |= 1 << (i % 64)
	d.blocks[i/64/blockWords]++
	d.groups[i/64/groupWords]++
	d.n++
}

// choose returns a free bit, each with the same probability. There must be one.
//
// It probes four positions that one random number gives, each of which is uniform over the free bits if it hits, and only
// then counts its way to the r-th free bit, which is uniform too: so the mixture is. Probing costs 2-3 ns a miss, counting
// about 20 ns, so up to half full hardly anybody counts.
func (d *dense) choose(probe uint64, rand func() uint64) uint {
	r := rand()
	for range 4 {
		i := uint(r & probe)
		if i/64 < uint(len(d.words)) && d.free(i) {
			return i
		}
		r >>= 16
	}
	return d.nth(int(uniform(rand, uint64(d.n))))
}

// nth returns the r-th free bit, from 0. There must be more than r. The counting is free of branches on the counts:
// they are random, so each would be mispredicted half of the time.
func (d *dense) nth(r int) uint {
	group, before, sum := 0, 0, 0
	for i := range d.groups {
		sum += int(d.groups[i])
		past := atMost(sum, r)
		group += past & 1
		before += int(d.groups[i]) & past
	}
	r -= before

	block := group * (groupWords / blockWords)
	blocks := d.blocks[block:min(block+groupWords/blockWords, len(d.blocks))]
	before, sum = 0, 0
	for _, n := range blocks {
		sum += int(n)
		past := atMost(sum, r)
		block += past & 1
		before += int(n) & past
	}
	r -= before

	word := block * blockWords
	words := d.words[word:min(word+blockWords, len(d.words))]
	before, sum = 0, 0
	for _, w := range words {
		n := bits.OnesCount64(w)
		sum += n
		past := atMost(sum, r)
		word += past & 1
		before += n & past
	}
	return uint(word*64 + nthBit(d.words[word], r-before))
}

// atMost returns all ones if a <= b and 0 otherwise, without a branch.
func atMost(a, b int) int { return ^((b - a) >> (bits.UintSize - 1)) }

// nthBit returns the position of the r-th set bit of w, from 0. There must be more than r.
func nthBit(w uint64, r int) int {
	at := 0
	for half := 32; half > 0; half /= 2 {
		n := bits.OnesCount64(w & (1<<half - 1))
		past := atMost(n, r)
		r -= n & past
		w >>= half & past
		at += half & past
	}
	return at
}

// uniform returns a number below n, each exactly equally likely: Lemire's multiplication with rejection.
func uniform(rand func() uint64, n uint64) uint64 {
	hi, lo := bits.Mul64(rand(), n)
	if lo < n {
		for least := -n % n; lo < least; {
			hi, lo = bits.Mul64(rand(), n)
		}
	}
	return hi
}
