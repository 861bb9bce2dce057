package tuple

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/ports"
)

// Request is what TryAcquireFor and AcquireFor ask for: a destination, and what else the tuple must be. The zero
// value of each field but Dst asks for nothing in particular. A Request may be copied.
type Request struct {
	// Dst is the destination.
	Dst netip.AddrPort

	// Src is the source address, one of the pool's Sources. A pool without Sources has none to choose from.
	Src netip.Addr

	// Ports are the source ports to choose among, so far as the pool has them: an alloc.Set.Slice, or "1027-65535/16",
	// those that are 3 modulo 16, for a database that picks the shard by the client's port. Make a set once and use it
	// for many requests: the first one with a new set costs 0.2 ms.
	Ports alloc.Set

	// Owner is whom the tuple is for: a crawler's tenant, a proxy's client. Sticky pools and quotas tell owners apart.
	Owner string
}

// TryAcquireFor is TryAcquire for a request. Among the free ports of the source that will do, every one is equally
// likely. What it costs does not depend on how few there are.
func (p *Pool) TryAcquireFor(r Request) (Tuple, error) {
	if r == (Request{Dst: r.Dst}) {
		return p.TryAcquire(r.Dst)
	}
	return p.acquire(atOnce, &r)
}

// AcquireFor is Acquire for a request.
func (p *Pool) AcquireFor(ctx context.Context, r Request) (Tuple, error) {
	if r == (Request{Dst: r.Dst}) {
		return p.Acquire(ctx, r.Dst)
	}
	return p.acquire(ctx, &r)
}

// ask is a request in the terms of a shard.
type ask struct {
	dst   netip.AddrPort
	to    addr   // dst's
	key   dstKey // the space of dst
	hash  uint64
	src   addr           // zero: any
	table *ports.Allowed // of Request.Ports; nil: any
	owner string
}

func (a *ask) tuple(h hold, from *sources) Tuple {
	return Tuple{from.at(h.number()), a.to, h.port(), a.dst.Port()}
}

// atOnce is the context of an acquire that does not wait: none.
var atOnce context.Context

// serve serves a request. It waits if there is a context, and calls waits when it begins to, unless that is nil.
func (p *Pool) serve(ctx context.Context, r *Request, waits func()) (Tuple, error) {
	st := p.ready()
	to := addrFrom(r.Dst.Addr())
	a := ask{dst: r.Dst, to: to, key: p.space(to, r.Dst.Port()), src: addrFrom(r.Src), owner: r.Owner}
	if !r.Ports.IsZero() {
		a.table = st.tables.of(r.Ports)
	}
	var sh *shard
	sh, a.hash = st.shard(a.key)

	mu := sh.lock()
	pl := sh.plan.Load()
	err := pl.refusal(&a)
	if err == nil && ctx != nil && ctx.Err() != nil {
		err = fmt.Errorf("tuple: acquire towards %v: %w", r.Dst, ctx.Err())
	}
	if err != nil {
		mu.Unlock()
		return Tuple{}, err
	}
	sh.settle(pl)
	if q := pl.quota; q != nil && q.stops(a.owner) != "" {
		q.settle()
	}
	h, ok := sh.acquireFor(&a, pl)
	if ok {
		if pl.quota != nil && sh.cool.early != nil {
			pl.quota.serve() // what was retired may have been somebody's
		}
		mu.Unlock()
		return a.tuple(h, pl.sources(a.key)), nil
	}
	if ctx == nil {
		defer mu.Unlock()
		return Tuple{}, sh.refused(&a, nil)
	}
	w, ok := sh.join(&a, pl)
	if !ok {
		defer mu.Unlock()
		return Tuple{}, sh.refused(&a, ErrQueueFull)
	}
	mu.Unlock()
	if waits != nil {
		w.whileIn(waits)
	}
	return w.await(ctx)
}

// acquireFor takes a free tuple as a asks for it, or a retired one under ReuseRetired. It fails only if none will do,
// or a quota is used up.
func (sh *shard) acquireFor(a *ask, pl *plan) (h hold, ok bool) {
	which, _ := sh.stops(a, pl)
	if which != "" && (which != "MaxPerDestination" || sh.cool.early == nil) {
		return 0, false
	}
	if which == "" {
		h, ok = sh.acquireLane(a, pl)
	}
	if !ok {
		d := sh.large(a, pl)
		h, ok = sh.take(a, d, pl)
		at, _ := sh.entries(a.key).find(a.key, a.hash)
		at.e.reduce(at, d, pl) // where it was made large for this one request
	}
	if ok {
		sh.took(a, h, pl)
	}
	return h, ok
}

// take is acquireFor for a large destination, but for the quotas that span several.
func (sh *shard) take(a *ask, d *destination, pl *plan) (h hold, ok bool) {
	if pl.mayHoldMore(d.inUse + d.retired) {
		h, ok = d.acquireFor(a, sh.choose(a, pl, d, nil), pl)
	}
	if !ok {
		h, ok = sh.reuse(a, d, pl)
	}
	return h, ok
}

// hasAny reports whether take may find something for somebody.
func (sh *shard) hasAny(d *destination, pl *plan) bool {
	return d.full.n < d.from.n && pl.mayHoldMore(d.inUse+d.retired) || sh.cool.early != nil && d.retired > 0
}

// acquireLane takes a free port into a lane. It fails if the destination is a large one, or must become one.
func (sh *shard) acquireLane(a *ask, pl *plan) (h hold, ok bool) {
	e, from := sh.entries(a.key), pl.sources(a.key)
	at, found := e.find(a.key, a.hash)
	if at.destination() != nil || a.table != nil || !pl.lanes {
		return 0, false
	}
	j := 0
	var en *entry
	if found {
		en = at.entry()
		if j = en.freeLane(); j < 0 {
			return 0, false
		}
	}
	var number uint64
	if a.src != (addr{}) {
		number, _ = from.liveNumber(a.src)
	} else {
		number = sh.choose(a, pl, nil, en)
	}
	if found {
		return en.take(j, number, from, pl, pl.rand()), true
	}
	h = holdOf(number, from.table(number).Draw(pl.rand(), pl.rand))
	e.add(a.key, a.hash, metaNew, [laneCount]uint64{uint64(h)})
	return h, true
}

// large returns the destination of a, which has one of its own from now on.
func (sh *shard) large(a *ask, pl *plan) *destination {
	e := sh.entries(a.key)
	at, found := e.find(a.key, a.hash)
	switch d := at.destination(); {
	case d != nil:
		return d
	case found:
		return e.enlarge(at, pl)
	}
	return e.addLarge(a.key, a.hash, pl)
}

// refusal says what keeps the pool from serving a, whatever is free; nil if nothing does.
func (pl *plan) refusal(a *ask) error {
	if pl.err == ErrClosed {
		return closedError(a)
	}
	if pl.err != nil {
		return pl.err
	}
	if err := checkDst(a.dst); err != nil {
		return err
	}
	from := pl.sources(a.key)
	family := "IPv6"
	if a.dst.Addr().Unmap().Is4() {
		family = "IPv4"
	}
	switch {
	case !a.key.isValid():
		return fmt.Errorf("tuple: the Pool's Scope of %v is no destination of the same family: it must be, and have a port", a.dst)
	case pl.v4.n+pl.v6.n == 0:
		return fmt.Errorf("tuple: no source for %v: SetSources has drained all of the pool's", a.dst)
	case from.n == 0:
		return fmt.Errorf("tuple: no source for %v: none of the pool's Sources is an %s address", a.dst, family)
	case a.src != (addr{}) && !from.isLive(a.src):
		return fmt.Errorf("tuple: no source %v for %v: it is not one of the pool's Sources", a.src.netip(), a.dst)
	case a.table != nil && !from.meet(a):
		return fmt.Errorf("tuple: no port for %v: the pool has none of the %d that were asked for", a.dst, a.table.Len())
	}
	return nil
}

func (s *sources) isLive(a addr) bool {
	_, ok := s.liveNumber(a)
	return ok
}

// meet reports whether a source that a may have has a port that a may have.
func (s *sources) meet(a *ask) bool {
	var table *ports.Allowed // of the last block
	for i := range s.blocks[:s.live] {
		b := &s.blocks[i]
		if _, in := b.find(a.src); b.table == table || a.src != (addr{}) && !in {
			continue
		}
		if table = b.table; table.Meets(a.table) {
			return true
		}
	}
	return false
}
