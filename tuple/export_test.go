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
		n += sh.v4.n + sh.v6.n
		sh.mu.Unlock()
	}
	return n
}

// SameShard reports whether the destinations of a and b lie under one lock.
func (p *Pool) SameShard(a, b Tuple) bool {
	st := p.ready()
	sa, _ := st.shard(a.dstKey())
	sb, _ := st.shard(b.dstKey())
	return sa == sb
}

// Where the fields of a shard lie.
const (
	ShardSize      = unsafe.Sizeof(shard{})
	ShardReadEnd   = unsafe.Offsetof(shard{}.v6) + unsafe.Sizeof(shard{}.v6)
	ShardWrite     = unsafe.Offsetof(shard{}.mu)
	ShardCooldown  = unsafe.Offsetof(shard{}.cool)
	ShardsInAState = unsafe.Offsetof(state{}.shards)
)

const DefaultMaxWaiters = defaultMaxWaiters
