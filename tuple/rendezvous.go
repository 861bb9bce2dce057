package tuple

import "math"

// rendezvous returns the source that a hash falls to. The block is the one with the highest score, so that one that
// comes or goes takes or leaves only what falls to it; the scores are weighted by the number of addresses (the
// logarithmic method), so that each address is equally likely. Within the block the hash is the last bits of the
// address, so that half of them stay when a prefix grows by a bit.
func (s *sources) rendezvous(hash uint64) uint64 {
	best, most := &s.blocks[0], math.Inf(-1)
	if s.live > 1 {
		for i := range s.blocks[:s.live] {
			b := &s.blocks[i]
			u := float64(mix(hash^mix(b.first.hi^mix(b.first.lo)))>>11|1) / (1 << 53)
			if score := float64(b.end-b.begin) / -math.Log(u); score > most {
				best, most = b, score
			}
		}
	}
	return best.begin + mix(hash)&(best.end-best.begin-1)
}

// mix is the finalizer of SplitMix64: every bit of x changes about half of those of the result.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
