package tuple

import (
	"net/netip"
	"time"

	"github.com/ephemera-go/ephemera/internal/cooling"
	"github.com/ephemera-go/ephemera/internal/held"
)

// Methods for tuples that others have, and for those that are retired because the kernel still holds them.
// access.Methods documents them.

func (p *Pool) retireForKernel(t Tuple, d time.Duration) bool {
	return p.retire(t, cooling.Kernel, max(d, 0))
}

func (p *Pool) yield(t Tuple, d time.Duration) bool { return p.retire(t, cooling.Taken, d) }

func (p *Pool) take(t Tuple, d time.Duration) bool {
	key := p.space(t.dst, t.dstPort)
	sh, hash := p.ready().shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	pl := sh.plan.Load()
	h, ok := pl.find(key, &t)
	if !ok || d == 0 || pl.err != nil {
		return false
	}
	sh.settle(pl)
	at := sh.held.Find(key, hash)
	if !pl.Sources(key).HandsOut(h) || at.State(h) != held.Free {
		return false
	}
	at.Take(key, hash, h, &pl.Rules)
	sh.coolDown(key, h, cooling.Taken, d)
	return true
}

func (p *Pool) claim(t Tuple, owner string) (was State, ok bool) {
	key := p.space(t.dst, t.dstPort)
	sh, hash := p.ready().shard(key)
	sh.mu.Lock()
	pl := sh.plan.Load()
	h, ok := pl.find(key, &t)
	if ok {
		sh.settle(pl)
		was, ok = sh.claim(&ask{Ask: held.Ask{Key: key, Hash: hash, Owner: owner}}, h, pl)
	}
	sh.mu.Unlock()
	if ok && p.Trace != nil {
		p.Trace.acquired(pl.tuple(key, h, &t), 0)
	}
	return was, ok
}

// claim takes into use a tuple that is free, retired for the kernel or taken.
func (sh *shard) claim(a *ask, h held.Hold, pl *plan) (was State, ok bool) {
	at := sh.held.Find(a.Key, a.Hash)
	stood := at.State(h)
	switch hands := pl.err == nil && pl.Sources(a.Key).HandsOut(h); {
	case stood == held.Free && !hands:
		return Foreign, false
	case stood == held.Free:
		return Free, sh.reserve(a, h, pl)
	case stood == held.InUse || !hands:
		return State(stood), false
	}
	if len(sh.removeIf(a.Key, func(other held.Hold, _ int64) bool { return other == h })) == 0 {
		return State(stood), false // a cool-down of the user's, which the kernel cannot end
	}
	at.Reuse(h, &pl.Rules)
	if q := pl.quota; q != nil && stood == held.Retired {
		q.freed(sh, a.Key, h, held.Retired)
	}
	sh.took(a, h, pl)
	sh.serveWaiters(a.Key, pl) // the tuple may have counted for another owner
	return State(stood), true
}

func (p *Pool) free(t Tuple) bool {
	key := p.space(t.dst, t.dstPort)
	sh, hash := p.ready().shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	pl := sh.plan.Load()
	h, ok := pl.find(key, &t)
	if !ok {
		return false
	}
	sh.settle(pl)
	if sh.held.Find(key, hash).State(h) < held.Retired {
		return false // to look through all retired tuples takes long
	}
	return sh.freeIf(key, hash, func(other held.Hold, _ int64) bool { return other == h }, pl) > 0
}

func (p *Pool) freeUnless(dst netip.AddrPort, age time.Duration, isHeld func(Tuple) bool) int {
	key := p.space(held.AddrFrom(dst.Addr()), dst.Port())
	sh, hash := p.ready().shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	pl := sh.plan.Load()
	sh.settle(pl)
	from, latest := pl.Sources(key), now()-int64(age)
	return sh.freeIf(key, hash, func(h held.Hold, began int64) bool {
		return began <= latest && !isHeld(Tuple{from.At(h.Number()), key.Addr(), h.Port(), key.Port()})
	}, pl)
}

// freeIf frees those tuples towards key that are retired for the kernel or taken, and for which drop is true. It serves
// waiters only when all of these are free, so that none is given a retired tuple instead.
func (sh *shard) freeIf(key held.Key, hash uint64, drop func(h held.Hold, began int64) bool, pl *plan) int {
	list := sh.removeIf(key, drop)
	for _, h := range list {
		sh.free(key, sh.held.Find(key, hash), h, pl)
	}
	if len(list) > 0 {
		sh.serveWaiters(key, pl)
	}
	return len(list)
}

// removeIf removes the same tuples as freeIf from those that cool down, and returns them. The caller must free them or
// take them into use.
func (sh *shard) removeIf(key held.Key, drop func(h held.Hold, began int64) bool) (list []held.Hold) {
	sh.cool.RemoveIf(key, func(h uint64, began int64) bool {
		if !drop(held.Hold(h), began) {
			return false
		}
		list = append(list, held.Hold(h))
		return true
	})
	delete(sh.next, key)
	sh.setDue()
	return list
}
