package tuple

import (
	"time"

	"github.com/ephemera-go/ephemera/internal/cooling"
	"github.com/ephemera-go/ephemera/internal/held"
)

// Reserve takes t into use if it is free, and reports whether it did. If t is in use, retired or taken, it returns
// false and changes nothing. The same holds for a tuple that the Pool does not hand out, because its source is not
// among the sources or its port is not among the ports, and for a closed Pool. t counts in the quotas, but no quota
// stops Reserve.
func (p *Pool) Reserve(t Tuple) bool { return p.ReserveFor(t, "") }

// ReserveFor is Reserve for an owner. t counts in the owner's MaxPerOwner. The empty string means no owner.
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

// reserve takes a tuple into use. It fails if the tuple is not free, or not one that the pool hands out.
func (sh *shard) reserve(a *ask, h held.Hold, pl *plan) bool {
	at := sh.held.Find(a.Key, a.Hash)
	if !pl.Sources(a.Key).HandsOut(h) || at.State(h) != held.Free {
		return false
	}
	at.Reserve(a.Key, a.Hash, h, &pl.Rules)
	sh.took(a, h, pl)
	return true
}

// Release ends the use of t, which is free at once, and reports whether t was in use. It returns false for a free,
// retired or taken tuple.
//
// Give each tuple back exactly once, by Release, Retire or RetireAs. Nobody may call Release twice: another caller may
// have acquired t in between, and the second call would end that use.
func (p *Pool) Release(t Tuple) bool { return p.Retire(t, 0) }

// Retire ends the use of t, lets it cool down for d, and reports whether t was in use. Choose d as long as the peer, a
// NAT or the kernel may remember the connection (TIME_WAIT). Once d has passed, t is free. If d is zero or negative, t
// is free at once. Under ReuseRetired an acquire may take t earlier.
func (p *Pool) Retire(t Tuple, d time.Duration) bool { return p.retire(t, cooling.Firm, max(d, 0)) }

// retire ends the use of t for the reason k. If d is 0, t is free at once. If d is negative, t never comes free by
// itself.
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
			d = 0 // the pool no longer holds it, which counts as released
		}
		p.Trace.ended(pl.tuple(key, h, &t), d)
	}
	return ok
}

// retire ends the use of a tuple for the reason k. It fails if the tuple is not in use.
func (sh *shard) retire(key held.Key, hash uint64, h held.Hold, k cooling.Kind, d time.Duration, pl *plan) bool {
	at := sh.held.Find(key, hash)
	if d == 0 {
		return sh.release(key, at, h, pl)
	}
	if at.State(h) != held.InUse {
		return false
	}
	sh.inUse--
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
	sh.serveWaiters(key, pl) // MaxPerDestination allows one more now, and the retired tuple may be reused
	return true
}

// release frees a tuple that is in use, and gives it to the first waiter that can use it. It fails if the tuple is not.
func (sh *shard) release(key held.Key, at held.Place, h held.Hold, pl *plan) bool {
	if !at.Release(h, &pl.Rules) {
		return false
	}
	sh.inUse--
	if pl.quota != nil {
		pl.quota.freed(sh, key, h, held.InUse)
	}
	sh.serveWaiters(key, pl)
	return true
}
