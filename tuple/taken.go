package tuple

import (
	"net/netip"
	"slices"
	"time"
)

// What others have, and what is retired because the kernel still holds it: see access.Methods. A destination towards
// which something is taken is a large one, so that entries need not know of it.

func (p *Pool) retireForKernel(t Tuple, d time.Duration) bool { return p.retire(t, forKernel, d) }

func (p *Pool) yield(t Tuple, d time.Duration) bool { return p.retire(t, taken, d) }

func (p *Pool) take(t Tuple, d time.Duration) bool {
	key := p.space(t.dst, t.dstPort)
	sh, hash := p.ready().shard(key)
	mu := sh.lock()
	defer mu.Unlock()
	pl := sh.plan.Load()
	h, ok := pl.find(key, &t)
	return ok && d != 0 && pl.err == nil && sh.takeAway(&ask{key: key, hash: hash}, h, d, pl)
}

func (p *Pool) claim(t Tuple, owner string) (was State, ok bool) {
	key := p.space(t.dst, t.dstPort)
	sh, hash := p.ready().shard(key)
	mu := sh.lock()
	pl := sh.plan.Load()
	h, ok := pl.find(key, &t)
	if ok {
		was, ok = sh.claim(&ask{key: key, hash: hash, owner: owner}, h, pl)
	}
	mu.Unlock()
	if ok && p.Trace != nil {
		p.Trace.acquired(pl.tuple(key, h, &t), 0)
	}
	return was, ok
}

func (p *Pool) free(t Tuple) bool {
	key := p.space(t.dst, t.dstPort)
	sh, hash := p.ready().shard(key)
	mu := sh.lock()
	defer mu.Unlock()
	pl := sh.plan.Load()
	h, ok := pl.find(key, &t)
	if !ok {
		return false
	}
	sh.settle(pl)
	if at, found := sh.entries(key).find(key, hash); !found || at.state(h) < Retired {
		return false // without looking through all that is retired
	}
	return sh.freeIf(key, hash, func(other hold, _ int64) bool { return other == h }, pl) > 0
}

func (p *Pool) freeUnless(dst netip.AddrPort, age time.Duration, held func(Tuple) bool) int {
	key := p.space(addrFrom(dst.Addr()), dst.Port())
	sh, hash := p.ready().shard(key)
	mu := sh.lock()
	defer mu.Unlock()
	pl := sh.plan.Load()
	sh.settle(pl)
	from, latest := pl.sources(key), now()-int64(age)
	return sh.freeIf(key, hash, func(h hold, began int64) bool {
		return began <= latest && !held(Tuple{from.at(h.number()), key.addr(), h.port(), key.port()})
	}, pl)
}

// freeIf frees the tuples towards key that drop is true for, among those that are retired for the kernel or taken.
// Those who wait are served when all of them are free, so that nobody is given a retired one instead.
func (sh *shard) freeIf(key dstKey, hash uint64, drop func(h hold, began int64) bool, pl *plan) int {
	if sh.cool.empty() {
		return 0
	}
	list := sh.removeIf(key, drop)
	for _, h := range list {
		at, _ := sh.entries(key).find(key, hash)
		sh.release(at, at.destination(), key, h, pl)
	}
	if len(list) > 0 {
		sh.serveBoth(key, pl)
	}
	return len(list)
}

// removeIf has the time of these tuples end: they are neither free nor in use until the caller says which.
func (sh *shard) removeIf(key dstKey, drop func(h hold, began int64) bool) (list []hold) {
	sh.cool.removeIf(key, func(h hold, began int64) bool {
		if !drop(h, began) {
			return false
		}
		list = append(list, h)
		return true
	})
	sh.setDue()
	return slices.Clip(list)
}

// yield makes a tuple in use one that is taken. It fails if the tuple is not in use.
func (sh *shard) yield(key dstKey, hash uint64, h hold, delay time.Duration, pl *plan) bool {
	if delay == 0 {
		return sh.retire(key, hash, h, taken, 0, pl)
	}
	sh.settle(pl)
	at, found := sh.entries(key).find(key, hash)
	if !found || !at.isInUse(h) {
		return false
	}
	d := sh.large(&ask{key: key, hash: hash}, pl)
	d.inUse--
	sh.inUse--
	sh.taken(d, h, delay)
	if pl.quota != nil {
		pl.quota.freed(sh, key, h, InUse)
	}
	sh.serveBoth(key, pl)
	return true
}

// takeAway makes a free tuple one that is taken. It fails if the tuple is not free.
func (sh *shard) takeAway(a *ask, h hold, delay time.Duration, pl *plan) bool {
	sh.settle(pl)
	at, found := sh.entries(a.key).find(a.key, a.hash)
	if !pl.sources(a.key).handOut(h) || found && at.contains(h) {
		return false
	}
	d := sh.large(a, pl)
	d.hold(h, pl)
	sh.taken(d, h, delay)
	return true
}

// taken counts a tuple that is held and not counted as one that is taken.
func (sh *shard) taken(d *destination, h hold, delay time.Duration) {
	until := int64(never)
	if delay > 0 {
		until = after(delay)
	} else {
		delay = -1
	}
	s := d.find(h.number())
	mark(&s.taken, s.table, h.port())
	d.taken++
	d.comesFree(until)
	sh.cool.add(taken, delay, resting{until, d.key, h})
	sh.setDue()
	sh.setWake()
}

// claim takes into use a tuple that is free, retired for the kernel or taken.
func (sh *shard) claim(a *ask, h hold, pl *plan) (was State, ok bool) {
	sh.settle(pl)
	at, found := sh.entries(a.key).find(a.key, a.hash)
	was = Free
	if found {
		was = at.state(h)
	}
	switch hands := pl.err == nil && pl.sources(a.key).handOut(h); {
	case was == Free && !hands:
		return Foreign, false
	case was == Free:
		return was, sh.reserve(a, h, pl)
	case was == InUse || !hands:
		return was, false
	}
	if len(sh.removeIf(a.key, func(other hold, _ int64) bool { return other == h })) == 0 {
		return was, false // it is retired by policy
	}
	if d := at.destination(); d != nil {
		d.reuse(h)
	} else {
		at.entry().reuse(at.entry().find(h))
	}
	if q := pl.quota; q != nil && was == Retired {
		q.freed(sh, a.key, h, Retired)
	}
	sh.took(a, h, pl)
	sh.serveBoth(a.key, pl) // the quota may have been another owner's
	return was, true
}
