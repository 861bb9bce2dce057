package tuple

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/access"
	"github.com/ephemera-go/ephemera/internal/held"
)

// plan is the configuration of a Pool in the form that its methods need, with the present sources. It does not change:
// SetSources, SetPorts and Close make another plan.
type plan struct {
	held.Rules
	ports      alloc.Set // of a source that has none of its own
	maxWaiters int
	arrivals   *atomic.Uint64 // how many acquires have waited so far
	maxPerDst  int            // MaxPerDestination; 0: no limit
	quota      *quota         // nil: neither MaxTuples nor MaxPerOwner
	reuses     bool           // ReuseRetired
	err        error          // what is wrong with the fields, or ErrClosed
}

func newPlan(p *Pool) *plan {
	random := p.rand
	if random == nil {
		random = rand.Uint64
	}
	pl := &plan{
		Rules: held.NewRules(held.Policy(p.Policy), random, stickySeed(p.StickySeed)),
		ports: p.Ports, maxWaiters: p.MaxWaiters, arrivals: new(atomic.Uint64),
		maxPerDst: p.MaxPerDestination, quota: newQuota(p), reuses: p.ReuseRetired,
	}
	if pl.maxWaiters == 0 {
		pl.maxWaiters = defaultMaxWaiters
	}
	if pl.ports.IsZero() {
		pl.ports = alloc.RangeSet(1024, 65535)
	}
	var v4, v6 *held.Sources
	switch {
	case pl.ports.Len() == 0:
		pl.err = errors.New("tuple: Pool.Ports is a set without a port: leave it zero to use 1024-65535")
	case p.MaxTuples < 0 || p.MaxPerDestination < 0 || p.MaxPerOwner < 0:
		pl.err = fmt.Errorf("tuple: a quota of the Pool is negative: 0 means no quota: MaxTuples %d, "+
			"MaxPerDestination %d, MaxPerOwner %d", p.MaxTuples, p.MaxPerDestination, p.MaxPerOwner)
	case p.Policy > Random:
		pl.err = fmt.Errorf("tuple: Pool.Policy is unknown: the last one is %d: %d", Random, uint8(p.Policy))
	case len(p.Sources) == 0:
		table := tableOf(pl.ports)
		v4, v6 = held.AnySource(netip.IPv4Unspecified(), table), held.AnySource(netip.IPv6Unspecified(), table)
	default:
		list := make([]Source, len(p.Sources))
		for i, prefix := range p.Sources {
			list[i].Prefix = prefix
		}
		v4, v6, pl.err = pl.sourcesFrom("Pool.Sources", list)
	}
	if pl.err == nil {
		pl.Rules = pl.With(v4, v6)
	}
	return pl
}

// stickySeed returns the seed of Pool.StickySeed, nil if that is empty.
func stickySeed(text string) *held.Seed {
	if text == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(text))
	seed := new(held.Seed)
	for i := range seed {
		seed[i] = binary.LittleEndian.Uint64(sum[8*i:])
	}
	return seed
}

// mayUse reports whether MaxPerDestination allows one more tuple in use, towards a destination that has inUse of them.
func (pl *plan) mayUse(inUse int) bool { return pl.maxPerDst == 0 || inUse < pl.maxPerDst }

// find returns the Hold of t, which lies in the space key. It fails if t is not a tuple of the pool.
func (pl *plan) find(key held.Key, t *Tuple) (held.Hold, bool) {
	if !key.IsValid() {
		return 0, false
	}
	return pl.Sources(key).Find(t.src, t.srcPort)
}

// tableOf returns what the allocator needs to know of a set of ports.
var tableOf = access.Table[alloc.Set]()
