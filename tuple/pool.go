package tuple

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/held"
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

	// StickySeed makes the choices of the sticky policies the same in each process that has the same seed and Sources.
	// If it is empty, each Pool makes choices of its own.
	StickySeed string

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
	shards  [shards]shard // first, because it begins a cache line
	hash    *held.Seed    // what nobody knows who chooses destinations
	watches watches       // read with the seed
}

func (p *Pool) ready() *state {
	if st := p.state.Load(); st != nil {
		return st
	}
	p.init.Lock()
	defer p.init.Unlock()
	st := p.state.Load()
	if st == nil {
		st = new(state)
		pl := newPlan(p)
		st.hash = pl.Hash
		if pl.quota != nil {
			pl.quota.shards = &st.shards
		}
		for i := range st.shards {
			sh := &st.shards[i]
			sh.plan.Store(pl)
			if sh.mu = &sh.own; pl.quota != nil {
				sh.mu = &pl.quota.mu
			}
			sh.due.Store(never)
			sh.cool.Ordered = p.ReuseRetired
		}
		p.state.Store(st)
	}
	return st
}

// shard returns the hash of a destination and the shard that it falls to.
func (st *state) shard(key held.Key) (*shard, uint64) {
	hash := key.Hash(st.hash)
	return &st.shards[hash%shards], hash
}

// space returns the port space of a destination. It is not valid if dst is no destination, or its Scope is of another
// family.
func (p *Pool) space(dst held.Addr, port uint16) held.Key {
	key := held.KeyOf(dst, port)
	if p.Scope == nil || !key.IsValid() {
		return key
	}
	scope := p.Scope(key.Netip())
	scoped := held.KeyOf(held.AddrFrom(scope.Addr()), scope.Port())
	if scoped.Is6() != key.Is6() {
		return held.Key{}
	}
	return scoped
}

// Contains reports whether t is in use, retired or taken. It seldom takes a lock.
func (p *Pool) Contains(t Tuple) bool {
	key := p.space(t.dst, t.dstPort)
	sh, hash := p.ready().shard(key)
	if is, known := sh.has(key, hash, &t); known {
		return is
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	pl := sh.plan.Load()
	h, ok := pl.find(key, &t)
	if !ok {
		return false
	}
	sh.settle(pl)
	return sh.held.Find(key, hash).State(h) != held.Free
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
		sh.mu.Lock()
		sh.settle(sh.plan.Load())
		sum.InUse += sh.inUse
		sum.Retired += sh.cool.Len() - sh.cool.Taken()
		sum.Taken += sh.cool.Taken()
		sum.Waiting += sh.waits.Len()
		sum.Destinations += sh.held.Len()
		sh.mu.Unlock()
	}
	return sum
}
