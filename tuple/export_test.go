package tuple

import (
	"iter"
	"net/netip"
	"unsafe"

	"github.com/ephemera-go/ephemera/internal/held"
)

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

// Tables returns how many destinations are in the tables of p. Unlike Stats it does not free what has cooled down.
func (p *Pool) Tables() int {
	n := 0
	st := p.ready()
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		n += sh.held.Len()
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

// The offsets of fields of a shard.
const (
	ShardSize      = unsafe.Sizeof(shard{})
	ShardReadEnd   = unsafe.Offsetof(shard{}.mu) + unsafe.Sizeof(shard{}.mu)
	ShardWrite     = unsafe.Offsetof(shard{}.own)
	ShardCooldown  = unsafe.Offsetof(shard{}.cool)
	ShardsInAState = unsafe.Offsetof(state{}.shards)
)

const DefaultMaxWaiters = defaultMaxWaiters

// ContainsQuickly is Contains without the lock, which does not always know.
func (p *Pool) ContainsQuickly(t Tuple) (held, known bool) {
	key := t.dstKey()
	sh, hash := p.ready().shard(key)
	return sh.has(key, hash, &t)
}

// IsWatched reports whether p has any watch.
func (p *Pool) IsWatched() bool { return p.ready().watches.Load() != nil }

// HandsOut is for package dialer.
func (p *Pool) HandsOut(src netip.Addr, port uint16) bool { return p.handsOut(src, port) }

// Watch is for package dialer.
type Watch struct {
	Ended func(Tuple) bool
	Stop  func()
}

func (p *Pool) Watch(tuples iter.Seq[Tuple]) Watch {
	ended, stop := p.watch(tuples)
	return Watch{ended, stop}
}

// Wrapped returns how many destinations lie before their home slot, because the search wrapped at the end of the table.
func (p *Pool) Wrapped() (n int) {
	st := p.ready()
	for i := range st.shards {
		n += st.shards[i].held.Wrapped(&st.shards[i].plan.Load().Rules)
	}
	return n
}

// SameHome reports whether the destinations of a and b have the same home slot in a table that holds no others.
func (p *Pool) SameHome(a, b Tuple) bool {
	_, ha := p.ready().shard(a.dstKey())
	_, hb := p.ready().shard(b.dstKey())
	return p.SameShard(a, b) && held.SameHome(ha, hb)
}
