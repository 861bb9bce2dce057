package tuple

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/ports"
)

// plan is what the fields of a Pool come to, and the sources that it has at present. It does not change: other
// sources make another plan.
type plan struct {
	v4, v6     sources
	plain      bool // whether Pool.quick will do: no policy but RoundRobin, no quota, no hooks, nothing reused, not closed
	policy     Policy
	ports      alloc.Set // of a source that has none of its own
	lanes      bool      // whether entries hold tuples: not if a source may have no free port though a lane is free
	maxWaiters int
	arrivals   *atomic.Uint64 // how many have waited so far
	maxPerDst  int            // MaxPerDestination; 0: no cap
	quota      *quota         // nil: neither MaxTuples nor MaxPerOwner
	rand       func() uint64
	err        error // what is wrong with the fields
	spares     *spares
	owners     maphash.Seed // for StickyOwner
}

func newPlan(p *Pool, tables *tables) *plan {
	pl := &plan{
		plain: p.Policy == RoundRobin && p.Trace == nil && !p.ReuseRetired, policy: p.Policy, maxWaiters: p.MaxWaiters, rand: p.rand,
		spares: new(spares), owners: maphash.MakeSeed(),
	}
	if pl.rand == nil {
		pl.rand = rand.Uint64
	}
	pl.maxPerDst, pl.quota, pl.arrivals = p.MaxPerDestination, newQuota(p), new(atomic.Uint64)
	pl.plain = pl.plain && pl.maxPerDst == 0 && pl.quota == nil
	if pl.maxWaiters == 0 {
		pl.maxWaiters = defaultMaxWaiters
	}
	pl.ports = p.Ports
	if pl.ports.IsZero() {
		pl.ports = alloc.RangeSet(1024, 65535)
	}
	var v4, v6 sources
	switch {
	case pl.ports.Len() == 0:
		pl.err = errors.New("tuple: Pool.Ports is a set without a port: leave it zero for 1024-65535")
	case p.MaxTuples < 0 || p.MaxPerDestination < 0 || p.MaxPerOwner < 0:
		pl.err = fmt.Errorf("tuple: Pool.MaxTuples, MaxPerDestination and MaxPerOwner are %d, %d and %d: 0 means no quota, and they must not be negative", p.MaxTuples, p.MaxPerDestination, p.MaxPerOwner)
	case p.Policy > Random:
		pl.err = fmt.Errorf("tuple: Pool.Policy is %d, which is none of the policies", p.Policy)
	case len(p.Sources) == 0:
		table := tables.of(pl.ports)
		v4, v6 = anySource(netip.IPv4Unspecified(), table), anySource(netip.IPv6Unspecified(), table)
	default:
		list := make([]Source, len(p.Sources))
		for i, prefix := range p.Sources {
			list[i].Prefix = prefix
		}
		v4, v6, pl.err = pl.sourcesFrom("Pool.Sources", list, tables)
	}
	if pl.err == nil {
		pl.setSources(v4, v6)
	}
	return pl
}

func (pl *plan) sourcesFrom(what string, list []Source, tables *tables) (v4, v6 sources, err error) {
	return sourcesFrom(what, list, func(set alloc.Set) *ports.Allowed {
		if set.IsZero() {
			set = pl.ports
		}
		return tables.of(set)
	})
}

func (pl *plan) setSources(v4, v6 sources) {
	pl.v4, pl.v6, pl.lanes = v4, v6, true
	for _, s := range []*sources{&pl.v4, &pl.v6} {
		for _, b := range s.blocks[:s.live] {
			pl.lanes = pl.lanes && b.table.Len() > laneCount
			s.capacity += (b.end - b.begin) * uint64(b.table.Len())
		}
	}
}

// mayHoldMore reports whether MaxPerDestination lets one more be held towards a destination where so many are.
func (pl *plan) mayHoldMore(held int) bool { return pl.maxPerDst == 0 || held < pl.maxPerDst }

// sources returns the source addresses of the family of a destination.
func (pl *plan) sources(dst dstKey) *sources {
	if dst.is6() {
		return &pl.v6
	}
	return &pl.v4
}

// find returns the source and port of t, which lies in the space key. It fails if t is not a tuple of the pool.
func (pl *plan) find(key dstKey, t *Tuple) (hold, bool) {
	if !key.isValid() {
		return 0, false
	}
	return pl.sources(key).find(t)
}

// tables are the sets of ports that a Pool has met lately, as the allocator needs them.
type tables struct {
	mu sync.Mutex
	m  map[alloc.Set]*ports.Allowed
}

// mostTables bounds how many sets are remembered: some 10 KB each.
const mostTables = 64

func (t *tables) of(set alloc.Set) *ports.Allowed {
	t.mu.Lock()
	defer t.mu.Unlock()
	table := t.m[set]
	if table == nil {
		if t.m == nil || len(t.m) >= mostTables {
			t.m = make(map[alloc.Set]*ports.Allowed)
		}
		table = ports.Allow(set.All())
		t.m[set] = table
	}
	return table
}
