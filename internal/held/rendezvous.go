package held

import "math"

// rendezvous returns the live source that a hash falls to. The block is the one with the highest score, so that a block
// that comes or goes takes or leaves only what falls to it. The scores are weighted by the number of addresses (the
// logarithmic method), so that each address is equally likely. Within the block the hash is the last bits of the
// address, so that half of the choices stay when a prefix grows by a bit.
func (s *Sources) rendezvous(hash uint64) uint64 {
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
