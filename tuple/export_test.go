package tuple

import "unsafe"

// SetRand makes p draw its random numbers from rand. It must come before the first use of p.
func (p *Pool) SetRand(rand func() uint64) { p.rand = rand }

// Timers returns how many timers p has running.
func (p *Pool) Timers() int {
	n := 0
	st := p.ready()
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		if sh.wake != nil {
			n++
		}
		sh.mu.Unlock()
	}
	return n
}

// Tables returns how many destinations are in the tables of p as they lie there: unlike Stats it settles nothing.
func (p *Pool) Tables() int {
	n := 0
	st := p.ready()
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		n += len(sh.dsts.m)
		sh.mu.Unlock()
	}
	return n
}

// SameShard reports whether the destinations of a and b lie under one lock.
func (p *Pool) SameShard(a, b Tuple) bool {
	st := p.ready()
	return st.shardOf(a) == st.shardOf(b)
}

// ShardGap is how many bytes lie between what one shard writes and what the next one does.
const ShardGap = unsafe.Sizeof(shard{}) - unsafe.Offsetof(shard{}.wake) - unsafe.Sizeof(shard{}.wake)

const DefaultMaxWaiters = defaultMaxWaiters
