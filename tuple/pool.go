package tuple

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/held"
)

// Pool hands out tuples: it chooses a source address and a source port for a destination, and keeps which tuples are
// held. A tuple is free, in use, retired or taken. Only free tuples are handed out, except under ReuseRetired.
//
// The Policy chooses the source. Each free port of that source is equally likely and unpredictable (RFC 6056). An
// acquire finds nothing free only if at some instant during the call no source had a free port. It takes the same time
// however few ports are free, and does not allocate in the steady state.
//
// Memory follows the tuples held, not the destinations ever seen. An idle Pool runs no goroutine and no timer.
//
// The zero Pool is ready to use. A Pool must not be copied. Its fields must not be changed after its first use. All
// methods are safe for concurrent use.
//
// If a field is invalid, every acquire and SetSources return an error, and all other methods behave as for an empty
// Pool.
//
// The clock is that of package time: a Pool that is used in a testing/synctest bubble must not be used outside it.
type Pool struct {
	// Sources are the prefixes to send from. All addresses of a prefix are used, the first and the last included: 256
	// for 192.0.2.0/24, one for 192.0.2.1/32. If a prefix has more than 2^32 addresses, the first 2^32 are used. A
	// destination gets a source of its own family.
	//
	// If Sources is empty, the operating system picks the source address. Each destination then has one port space. The
	// tuples handed out have the unspecified address as their source, and methods ignore the source address of a tuple
	// that they are given.
	Sources []netip.Prefix

	// Ports are the source ports. The zero Set means 1024-65535, both included. A set that is empty but not zero, such
	// as that of the text "none", is an error of each acquire.
	Ports alloc.Set

	// Policy chooses the source of each tuple. The zero Policy is RoundRobin: the sources take turns towards each
	// destination.
	Policy Policy

	// MaxTuples limits how many tuples are held in the whole Pool, in use or retired. 0 means no limit.
	//
	// Reserve may exceed this and the other two quotas: it counts in them, and they do not stop it. Taken tuples count
	// in no quota. If MaxTuples or MaxPerOwner is set, one lock guards the whole Pool.
	MaxTuples int

	// MaxPerDestination limits how many tuples are in use towards one destination, over all sources. 0 means no limit.
	// Retired tuples do not count. Destinations that Scope maps to the same one count together.
	MaxPerDestination int

	// MaxPerOwner limits how many tuples one Request.Owner holds, in use or retired, so that an owner who opens and
	// closes all the time cannot use up the ports of the others. 0 means no limit. Requests without an owner are not
	// limited. It takes some 70 bytes for each tuple that has an owner.
	MaxPerOwner int

	// MaxWaiters limits how many Acquire calls wait for one destination, and how many wait for MaxTuples and
	// MaxPerOwner together. 0 means 1,024. If it is negative, none may wait.
	//
	// When the line is full, a new waiter displaces the newest waiter of the owner that has the most, if that owner has
	// at least two more than its own. One owner cannot fill the line and lock the others out.
	MaxWaiters int

	// CoolDown says how long a tuple cools down after RetireAs. The zero CoolDown suits a host that owns its source
	// addresses.
	CoolDown CoolDown

	// ReuseRetired lets an acquire take a retired tuple if no free one fits: the one that was retired first towards the
	// destination, from any source. The quotas count as without it.
	//
	// A waiter is then served as soon as a tuple that fits is retired. It takes amortised O(1) for up to 64 kinds of
	// Request at a time towards a destination, and some 10 to 120 bytes more for each retired tuple.
	ReuseRetired bool

	// StickySeed makes the sticky policies choose the same in each process that has the same seed and Sources. If it is
	// empty, each Pool chooses differently.
	StickySeed string

	// Scope maps a destination to the space in which its source ports must be unique. nil means that each destination
	// is a space of its own. Behind a virtual address, a sidecar or a NAT that rewrites destinations, several
	// destinations look the same on the wire: map them to the same address and port.
	//
	// The result must be of the same family and have a port. Scope must always return the same result for the same
	// destination, must be safe for concurrent use and must not use the Pool.
	Scope func(dst netip.AddrPort) netip.AddrPort

	// Trace holds hooks for what happens to tuples. nil means no hooks.
	Trace *Trace

	rand  func() uint64 // nil: math/rand/v2's
	init  sync.Mutex
	state atomic.Pointer[state]
	slot  atomic.Value // for package dialer
}

// shards is how many locks share the destinations. With 64 two cores seldom meet. They take 16 KiB.
const shards = 64

type state struct {
	shards  [shards]shard // first, because it begins a cache line
	hash    *held.Seed    // secret, so that nobody can choose destinations that collide
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

// shard returns the shard of a destination, and its hash.
func (st *state) shard(key held.Key) (*shard, uint64) {
	hash := key.Hash(st.hash)
	return &st.shards[hash%shards], hash
}

// space returns the key of the space in which the ports of a destination must be unique. The key is not valid if dst is
// not a destination, or if Scope returns one of another family.
func (p *Pool) space(dst held.Addr, port uint16) held.Key {
	if p.Scope != nil {
		return p.scope(held.KeyOf(dst, port))
	}
	return held.KeyOf(dst, port)
}

func (p *Pool) scope(key held.Key) held.Key {
	if !key.IsValid() {
		return key
	}
	scope := p.Scope(key.Netip())
	scoped := held.KeyOf(held.AddrFrom(scope.Addr()), scope.Port())
	if scoped.Is6() != key.Is6() {
		return held.Key{}
	}
	return scoped
}

// Contains reports whether t is in use, retired or taken. It takes a lock only rarely.
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

// Stats counts what a Pool holds.
type Stats struct {
	InUse        int // tuples in use
	Retired      int // tuples that are cooling down
	Taken        int // tuples that others have: see Taken
	Waiting      int // Acquire calls that wait
	Destinations int // destinations towards which a tuple is in use, retired or taken
}

// Stats counts what p holds. Each destination is counted at one instant, but not all at the same instant. The figures
// are exact if nothing happens meanwhile. Stats takes 64 locks, one after the other, and a few microseconds, however
// much p holds.
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
