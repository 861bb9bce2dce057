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
	maxWaiters int
	rand       func() uint64
	err        error // what is wrong with the fields
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

// sources returns the source addresses of the family of dst.
func (pl *plan) sources(dst addr) *sources {
	if dst.netip().Is4() {
		return &pl.v4
	}
	return &pl.v6
}

// towards returns dst's key and sources, or what keeps the pool from giving a tuple towards it.
func (pl *plan) towards(dst netip.AddrPort) (dstKey, *sources, error) {
	if pl.err != nil {
		return dstKey{}, nil, pl.err
	}
	if err := checkDst(dst); err != nil {
		return dstKey{}, nil, err
	}
	key := dstKeyFrom(dst)
	from := pl.sources(key.addr)
	if from.len() == 0 {
		family := "IPv6"
		if dst.Addr().Unmap().Is4() {
			family = "IPv4"
		}
		return dstKey{}, nil, fmt.Errorf("tuple: no source for %v: none of the pool's Sources is an %s address", dst, family)
	}
	return key, from, nil
}

// source returns the source of t as the pool keeps it, and its number. It fails if t is not a tuple of the pool.
func (pl *plan) source(t Tuple) (a addr, number uint64, ok bool) {
	if pl.err != nil || !t.IsValid() {
		return addr{}, 0, false
	}
	from := pl.sources(t.dst)
	if pl.anySource {
		return from.at(0), 0, true
	}
	number, ok = from.index(t.src)
	return t.src, number, ok
}
