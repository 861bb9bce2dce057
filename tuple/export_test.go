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
		mu := sh.lock()
		if sh.wake != nil {
			n++
		}
		mu.Unlock()
	}
	return n
}

// Tables returns how many destinations are in the tables of p as they lie there: unlike Stats it settles nothing.
func (p *Pool) Tables() int {
	n := 0
	st := p.ready()
	for i := range st.shards {
		sh := &st.shards[i]
		mu := sh.lock()
		n += sh.v4.n + sh.v6.n
		mu.Unlock()
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

// ContainsQuickly is Contains as far as it knows without the lock.
func (p *Pool) ContainsQuickly(t Tuple) (held, known bool) {
	key := t.dstKey()
	sh, hash := p.ready().shard(key)
	return sh.has(key, hash, &t)
}

// Wrapped returns how many entries lie before their home, for the table ended.
func (p *Pool) Wrapped() int {
	n := 0
	st := p.ready()
	for i := range st.shards {
		for _, e := range []*entries{&st.shards[i].v4, &st.shards[i].v6} {
			if s := e.slots.Load(); s != nil {
				for i := s.keyWords - 1; i < len(s.words); i += s.size {
					if s.words[i] != 0 && s.home(s.key(i).hash(&st.seed)) > i {
						n++
					}
				}
			}
		}
	}
	return n
}

// SameHome reports whether the entries of a and b lie one after the other in a table that holds no others.
func (p *Pool) SameHome(a, b Tuple) bool {
	st := p.ready()
	s := newSlots(minSlots, 1)
	_, ha := st.shard(a.dstKey())
	_, hb := st.shard(b.dstKey())
	return p.SameShard(a, b) && s.home(ha) == s.home(hb)
}

// IsWatched reports whether an end of a use looks for those who watch.
func (p *Pool) IsWatched() bool { return p.ready().watches.Load() != nil }
