package tuple

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/ports"
)

// plan is what the fields of a Pool come to. It does not change.
type plan struct {
	ports      *ports.Allowed
	v4, v6     sources
	anySource  bool
	lanes      bool // whether entries hold tuples: not if a source may have no free port though a lane is free
	maxWaiters int
	rand       func() uint64
	err        error // what is wrong with the fields
	spares     spares
}

func newPlan(p *Pool) *plan {
	pl := &plan{maxWaiters: p.MaxWaiters, rand: p.rand, anySource: len(p.Sources) == 0}
	if pl.rand == nil {
		pl.rand = rand.Uint64
	}
	if pl.maxWaiters == 0 {
		pl.maxWaiters = defaultMaxWaiters
	}
	set := p.Ports
	if set.IsZero() {
		set = alloc.RangeSet(1024, 65535)
	}
	pl.ports = ports.Allow(set.All())
	pl.lanes = pl.ports.Len() > laneCount
	if pl.ports.Len() == 0 {
		pl.err = errors.New("tuple: Pool.Ports is a set without a port: leave it zero for 1024-65535")
		return pl
	}
	if pl.anySource {
		pl.v4, pl.v6 = anySource(netip.IPv4Unspecified()), anySource(netip.IPv6Unspecified())
	} else {
		pl.v4, pl.v6, pl.err = sourcesFrom(p.Sources)
	}
	return pl
}

// sources returns the source addresses of the family of a destination.
func (pl *plan) sources(dst dstKey) *sources {
	if dst.is6() {
		return &pl.v6
	}
	return &pl.v4
}

// towards returns dst's key and sources, or what keeps the pool from giving a tuple towards it.
func (pl *plan) towards(dst netip.AddrPort) (dstKey, *sources, error) {
	key := dstKeyOf(addrFrom(dst.Addr()), dst.Port())
	from := pl.sources(key)
	if pl.err != nil || !key.isValid() || from.n == 0 {
		return dstKey{}, nil, pl.refusal(dst)
	}
	return key, from, nil
}

// refusal says what keeps the pool from giving a tuple towards dst.
func (pl *plan) refusal(dst netip.AddrPort) error {
	if pl.err != nil {
		return pl.err
	}
	if err := checkDst(dst); err != nil {
		return err
	}
	family := "IPv6"
	if dst.Addr().Unmap().Is4() {
		family = "IPv4"
	}
	return fmt.Errorf("tuple: no source for %v: none of the pool's Sources is an %s address", dst, family)
}

// find returns where t lies: its destination, and its source and port. It fails if t is not a tuple of the pool.
func (pl *plan) find(t *Tuple) (key dstKey, h hold, ok bool) {
	key = t.dstKey()
	if t.srcPort == 0 || !key.isValid() || t.src.is4() == key.is6() || pl.err != nil {
		return dstKey{}, 0, false
	}
	number := uint64(0)
	if !pl.anySource {
		if number, ok = pl.sources(key).number(t.src); !ok {
			return dstKey{}, 0, false
		}
	}
	return key, holdOf(number, t.srcPort), true
}
