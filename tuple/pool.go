package tuple

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
)

// Pool hands out tuples towards destinations: it chooses the source address and the source port. A tuple is free, in
// use, retired or taken, exactly one of the four, and is handed out only when it is free (but see ReuseRetired). Only
// package dialer makes tuples taken: others have them.
//
// The source addresses take turns. Among the free ports of the source every one is equally likely, whatever has gone
// before, and unpredictable (RFC 6056). An acquire fails only if at some instant during the call no source had a free
// port. It takes the same time at any fill, and does not allocate in the steady state.
//
// Memory follows the tuples held, not the destinations ever seen. An idle Pool runs no goroutine and no timer.
//
// Time is that of package time: a Pool that is used in a testing/synctest bubble must not be used outside it.
//
// The zero Pool is ready to use. Its fields must not be changed after its first use, and it must not be copied. It is
// safe for concurrent use. A configuration that cannot work, or a destination that is none, is an error of TryAcquire
// and Acquire; every other method then finds nothing in the Pool.
type Pool struct {
	// Sources are the addresses to send from: all of each prefix, so that a single address is 192.0.2.1/32 and
	// 192.0.2.1/24 is 256 of them, the network's and the broadcast address included. A destination is given a source of
	// its own family. Of a prefix with more than 2^32 addresses, which is not enumerated, the first 2^32 are used.
	//
	// If it is empty, the operating system picks the address: there is one port space per destination, the tuples handed
	// out have the unspecified address as their source, and the source address of a tuple handed in does not matter.
	Sources []netip.Prefix

	// Ports are the source ports. The zero Set means 1024-65535.
	Ports alloc.Set

	// Policy says which source a tuple is taken from. The zero Policy is RoundRobin.
	Policy Policy

	// MaxTuples, MaxPerDestination and MaxPerOwner are quotas: how many tuples may be held, in use or retired, in all,
	// in one port space (that is, towards one destination, unless there is a Scope) and for one Request.Owner; what has
	// no Owner is nobody's, and not limited by the last. 0 means that there is no such quota. A tuple counts until it
	// has cooled down, for what a quota protects, a NAT's ports or a subscriber's share, is busy until then;
	// ReuseRetired does not change that, but for MaxPerDestination, where it takes nothing more to reuse one. Reserve,
	// which says what is so, counts and is not refused.
	//
	// MaxTuples and MaxPerOwner put the whole Pool under one lock, and MaxPerOwner takes some 70 bytes for each tuple
	// that has an owner.
	MaxTuples, MaxPerDestination, MaxPerOwner int

	// MaxWaiters is how many Acquire calls may wait for one destination, and how many for MaxTuples and MaxPerOwner. 0
	// means 1,024; if negative, none may. When all places are taken, an owner who has at least two fewer of them than
	// another gets one: from the owner with the most, who loses that of the newest.
	MaxWaiters int

	// CoolDown says how long RetireAs lets a tuple rest. The zero CoolDown suits a host that owns its source addresses.
	CoolDown CoolDown

	// ReuseRetired lets an acquire for which nothing is free, but something that would do is retired, take that before
	// its time instead of failing: what was retired first towards the destination, whichever source Policy would choose.
	// Nobody waits for what is retired then: it is given to whoever waits for it at once. It takes O(1) amortised for up
	// to 64 kinds of Request at a time towards a destination, and some 10 to 120 bytes more for each retired tuple.
	ReuseRetired bool

	// Scope maps a destination to the space in which source ports must be unique. nil means that each destination is a
	// space of its own. Behind a NAT of destinations, a sidecar or a virtual address, several destinations are one to
	// whoever sees the packets: map them to the same, which must be of their family and have a port. A scope must always
	// have the same result, and must not use the Pool.
	Scope func(dst netip.AddrPort) netip.AddrPort

	// Trace is told what happens to tuples. nil traces nothing.
	Trace *Trace

	rand  func() uint64 // nil: math/rand/v2's
	init  sync.Mutex
	state atomic.Pointer[state]
	slot  atomic.Value // package dialer's
}

// shards is how many locks share the destinations: enough that two cores seldom meet, and 16 KiB.
const shards = 64

type state struct {
	shards  [shards]shard // first, for it begins a cache line
	seed    seed
	watches watches // read with the seed
	rand    func() uint64
	tables  tables
}

func (p *Pool) ready() *state {
	if st := p.state.Load(); st != nil {
		return st
	}
	p.init.Lock()
	defer p.init.Unlock()
	st := p.state.Load()
	if st == nil {
		st = &state{seed: newSeed()}
		pl := newPlan(p, &st.tables)
		if pl.quota != nil {
			pl.quota.shards = &st.shards
		}
		st.rand = pl.rand
		for i := range st.shards {
			sh := &st.shards[i]
			sh.plan.Store(pl)
			sh.v4.seed, sh.v6.seed = &st.seed, &st.seed
			sh.due.Store(never)
			if p.ReuseRetired {
				sh.cool.early = new(retirees)
			}
		}
		p.state.Store(st)
	}
	return st
}

// shard returns the hash of a destination and the shard that it falls to.
func (st *state) shard(key dstKey) (*shard, uint64) {
	hash := key.hash(&st.seed)
	return &st.shards[hash%shards], hash
}

// space returns the port space of a destination; it is not valid if dst is no destination, or its Scope of another
// family.
func (p *Pool) space(dst addr, port uint16) dstKey {
	key := dstKeyOf(dst, port)
	if p.Scope == nil || !key.isValid() {
		return key
	}
	scope := p.Scope(key.netip())
	scoped := dstKeyOf(addrFrom(scope.Addr()), scope.Port())
	if scoped.is6() != key.is6() {
		return dstKey{}
	}
	return scoped
}

// TryAcquire takes a free tuple towards dst into use. If none is free, or others wait for one, the error at once is
// an ErrExhausted, in fact an *ExhaustedError. If a quota is used up it is an ErrQuota, in fact a *QuotaError, and if
// the Pool is closed an ErrClosed.
func (p *Pool) TryAcquire(dst netip.AddrPort) (Tuple, error) {
	if t, done, err := p.quick(dst, false); done {
		return t, err
	}
	return p.acquire(atOnce, &Request{Dst: dst})
}

// Acquire is TryAcquire that waits for a free tuple, and for the quotas, until ctx ends. Those who wait for a
// destination are served first come, first served, as soon as a tuple towards it is released or has cooled down;
// nobody is held up by one who waits for a quota of another owner.
//
// If ctx ends while it waits, or MaxWaiters others wait already, the error Is what TryAcquire's is, and ctx.Err() or
// ErrQueueFull too; if the Pool is closed, ErrClosed alone. If ctx has ended before, the error Is ctx.Err() alone. A
// tuple that it is given at the same time as ctx ends is returned all the same.
func (p *Pool) Acquire(ctx context.Context, dst netip.AddrPort) (Tuple, error) {
	if ctx.Err() == nil {
		if t, done, err := p.quick(dst, true); done {
			return t, err
		}
	}
	return p.acquire(ctx, &Request{Dst: dst})
}

// quick is what nearly every acquire comes to, in a pool that makes no use of policies, quotas and so on. Where it is
// not done, acquire has more to do: it waits, or finds out what is wrong.
func (p *Pool) quick(dst netip.AddrPort, wait bool) (t Tuple, done bool, err error) {
	to := addrFrom(dst.Addr())
	key := p.space(to, dst.Port())
	st := p.ready()
	sh, hash := st.shard(key)
	r := st.rand() // before the lock, which others may wait for
	sh.mu.Lock()
	pl := sh.plan.Load()
	from := pl.sources(key)
	if !pl.plain || from.n == 0 || !key.isValid() {
		sh.mu.Unlock()
		return Tuple{}, false, nil
	}
	h, ok := sh.acquire(key, hash, pl, r)
	if !ok && !wait {
		err = sh.exhausted(&ask{dst: dst, to: to, key: key, hash: hash}, nil)
	}
	sh.mu.Unlock()
	if !ok {
		return Tuple{}, !wait, err
	}
	return Tuple{from.at(h.number()), to, h.port(), dst.Port()}, true, nil
}

// Reserve takes t into use. It fails if t is in use, retired or taken, or is not a tuple that the Pool could hand
// out: its source is not in Sources, or its port is not in Ports. Nor does it take anything from a Pool that is
// closed.
func (p *Pool) Reserve(t Tuple) bool { return p.ReserveFor(t, "") }

// ReserveFor is Reserve for an owner, in whose MaxPerOwner it counts; "" is nobody.
func (p *Pool) ReserveFor(t Tuple, owner string) bool {
	key := p.space(t.dst, t.dstPort)
	sh, hash := p.ready().shard(key)
	mu := sh.lock()
	pl := sh.plan.Load()
	h, ok := pl.find(key, &t)
	ok = ok && pl.err == nil && sh.reserve(&ask{key: key, hash: hash, owner: owner}, h, pl)
	mu.Unlock()
	if ok && p.Trace != nil {
		p.Trace.acquired(pl.tuple(key, h, &t), 0)
	}
	return ok
}

// Release ends the use of t, which is free at once. It fails if t is not in use; a retired tuple is not. Whoever
// holds t must give it back once: by the time of a second call t may be somebody else's.
func (p *Pool) Release(t Tuple) bool { return p.Retire(t, 0) }

// Retire ends the use of t, which is free after d: for as long as the peer, a NAT or the kernel may remember it
// (TIME_WAIT). If d is not positive, that is at once. It fails if t is not in use. Under ReuseRetired it may be taken
// sooner.
func (p *Pool) Retire(t Tuple, d time.Duration) bool { return p.retire(t, byPolicy, d) }

// retire ends the use of t as the kind says. If d is 0, or negative and the kind is not taken, t is free at once.
func (p *Pool) retire(t Tuple, k kind, d time.Duration) bool {
	key := p.space(t.dst, t.dstPort)
	st := p.ready()
	if list := st.watches.Load(); list != nil {
		st.ends(*list, key, &t)
	}
	sh, hash := st.shard(key)
	mu := sh.lock()
	pl := sh.plan.Load()
	h, ok := pl.find(key, &t)
	switch {
	case !ok:
	case k == taken:
		ok = sh.yield(key, hash, h, d, pl)
	default:
		ok = sh.retire(key, hash, h, k, d, pl)
	}
	mu.Unlock()
	if ok && p.Trace != nil {
		if k == taken {
			d = 0 // nothing of the pool's cools down
		}
		p.Trace.ended(pl.tuple(key, h, &t), d)
	}
	return ok
}

// Contains reports whether t is in use, retired or taken. It seldom takes a lock.
func (p *Pool) Contains(t Tuple) bool {
	key := p.space(t.dst, t.dstPort)
	sh, hash := p.ready().shard(key)
	if held, known := sh.has(key, hash, &t); known {
		return held
	}
	mu := sh.lock()
	defer mu.Unlock()
	pl := sh.plan.Load()
	h, ok := pl.find(key, &t)
	return ok && sh.contains(key, hash, h, pl)
}

// Stats is how much a Pool holds.
type Stats struct {
	InUse        int // tuples in use
	Retired      int // tuples that are cooling down
	Taken        int // tuples that are taken: see State
	Waiting      int // Acquire calls that wait
	Destinations int // destinations towards which a tuple is in use, retired or taken
}

// Stats counts what p holds. Each destination is counted at one instant, but not all at the same: the figures are exact
// when nothing happens meanwhile. It takes 64 locks, one after the other, and adds up what is counted anyway: a few
// microseconds, however much p holds.
func (p *Pool) Stats() Stats {
	st := p.ready()
	var sum Stats
	for i := range st.shards {
		sh := &st.shards[i]
		mu := sh.lock()
		sh.settle(sh.plan.Load())
		sum.InUse += sh.inUse
		sum.Retired += sh.cool.retired()
		sum.Taken += sh.cool.taken
		sum.Waiting += sh.waiting
		sum.Destinations += sh.v4.n + sh.v6.n
		mu.Unlock()
	}
	return sum
}
