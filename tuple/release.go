package tuple

import (
	"time"

	"github.com/ephemera-go/ephemera/internal/cooling"
	"github.com/ephemera-go/ephemera/internal/held"
)

// Reserve takes t into use. It fails if t is in use, retired or taken, or is not a tuple that the Pool could hand
// out: its source is not in Sources, or its port is not in Ports. It also fails if the Pool is closed.
func (p *Pool) Reserve(t Tuple) bool { return p.ReserveFor(t, "") }

// ReserveFor is Reserve for an owner, in whose MaxPerOwner it counts; "" is nobody.
func (p *Pool) ReserveFor(t Tuple, owner string) bool {
	key := p.space(t.dst, t.dstPort)
	sh, hash := p.ready().shard(key)
	sh.mu.Lock()
	pl := sh.plan.Load()
	h, ok := pl.find(key, &t)
	if ok = ok && pl.err == nil; ok {
		sh.settle(pl)
		ok = sh.reserve(&ask{Ask: held.Ask{Key: key, Hash: hash, Owner: owner}}, h, pl)
	}
	sh.mu.Unlock()
	if ok && p.Trace != nil {
		p.Trace.acquired(pl.tuple(key, h, &t), 0)
	}
	return ok
}

// reserve takes a tuple into use. It fails if the tuple is held, or not handed out.
func (sh *shard) reserve(a *ask, h held.Hold, pl *plan) bool {
	at := sh.held.Find(a.Key, a.Hash)
	if !pl.Sources(a.Key).HandsOut(h) || at.State(h) != held.Free {
		return false
	}
	at.Reserve(a.Key, a.Hash, h, &pl.Rules)
	sh.took(a, h, pl)
	return true
}

// Release ends the use of t, which is free at once. It fails if t is not in use; a retired tuple is not. Whoever
// holds t must give it back once: by the time of a second call t may be somebody else's.
func (p *Pool) Release(t Tuple) bool { return p.Retire(t, 0) }

// Retire ends the use of t, which is free after d: for as long as the peer, a NAT or the kernel may remember it
// (TIME_WAIT). If d is not positive, that is at once. It fails if t is not in use. Under ReuseRetired it may be taken
// sooner.
func (p *Pool) Retire(t Tuple, d time.Duration) bool { return p.retire(t, cooling.Firm, max(d, 0)) }

// retire ends the use of t as the kind says. If d is 0, t is free at once. If d is negative, it has no time.
func (p *Pool) retire(t Tuple, k cooling.Kind, d time.Duration) bool {
	key := p.space(t.dst, t.dstPort)
	st := p.ready()
	if list := st.watches.Load(); list != nil {
		st.ends(*list, key, &t)
	}
	sh, hash := st.shard(key)
	sh.mu.Lock()
	pl := sh.plan.Load()
	h, ok := pl.find(key, &t)
	if ok {
		sh.settle(pl)
		ok = sh.retire(key, hash, h, k, d, pl)
	}
	sh.mu.Unlock()
	if ok && p.Trace != nil {
		if k == cooling.Taken {
			d = 0 // nothing of the pool's cools down
		}
		p.Trace.ended(pl.tuple(key, h, &t), d)
	}
	return ok
}

// retire ends the use of a tuple as the kind says. It fails if the tuple is not in use.
func (sh *shard) retire(key held.Key, hash uint64, h held.Hold, k cooling.Kind, d time.Duration, pl *plan) bool {
	at := sh.held.Find(key, hash)
	if at.State(h) != held.InUse {
		return false
	}
	sh.inUse--
	if d == 0 {
		sh.free(key, at, h, pl)
		return true
	}
	if k == cooling.Taken {
		at.Yield(h, &pl.Rules)
	} else {
		at.Retire(h)
	}
	if q := pl.quota; q != nil && k == cooling.Taken {
		q.freed(sh, key, h, held.InUse)
	} else if q != nil {
		q.retired(sh, key, h)
	}
	sh.coolDown(key, h, k, d)
	sh.serveBoth(key, pl) // one in use less is one more for MaxPerDestination, and what is retired may be reused
	return true
}
