package tuple

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/held"
)

// Request is what TryAcquireFor and AcquireFor ask for: a destination, and what else the tuple must be. The zero
// value of each field except Dst asks for nothing in particular. A Request may be copied.
type Request struct {
	// Dst is the destination.
	Dst netip.AddrPort

	// Src is the source address, one of the pool's Sources. A pool without Sources has none to choose from.
	Src netip.Addr

	// Ports are the source ports to choose among, so far as the pool has them: an alloc.Set.Slice, or "1027-65535/16",
	// those that are 3 modulo 16, for a database that picks the shard by the client's port. Make a set once and use it
	// for many requests: the first one with a new set costs 0.2 ms.
	Ports alloc.Set

	// Owner names whom the tuple is for: a crawler's tenant, a proxy's client. Sticky pools and quotas tell owners
	// apart.
	Owner string
}

// TryAcquire takes a free tuple towards dst into use. If none is free, or others wait for one, the error at once is
// an ErrExhausted, in fact an *ExhaustedError. If a quota is used up it is an ErrQuota, in fact a *QuotaError, and if
// the Pool is closed an ErrClosed.
func (p *Pool) TryAcquire(dst netip.AddrPort) (Tuple, error) {
	return p.acquire(atOnce, dst, nil)
}

// Acquire is TryAcquire that waits for a free tuple, and for the quotas, until ctx ends. Those who wait for a
// destination are served first come, first served, as soon as a tuple towards it is released or has cooled down;
// nobody is held up by one who waits for a quota of another owner.
//
// If ctx ends while it waits, or MaxWaiters others wait already, the error Is what TryAcquire's is, and ctx.Err() or
// ErrQueueFull too; if the Pool is closed, ErrClosed alone. If ctx has ended before, the error Is ctx.Err() alone. A
// tuple that it is given at the same time as ctx ends is returned all the same.
func (p *Pool) Acquire(ctx context.Context, dst netip.AddrPort) (Tuple, error) {
	return p.acquire(ctx, dst, nil)
}

// TryAcquireFor is TryAcquire for a request. Among the free ports of the source that will do, every one is equally
// likely. What it costs does not depend on how few there are.
func (p *Pool) TryAcquireFor(r Request) (Tuple, error) { return p.acquire(atOnce, r.Dst, &r) }

// AcquireFor is Acquire for a request.
func (p *Pool) AcquireFor(ctx context.Context, r Request) (Tuple, error) {
	return p.acquire(ctx, r.Dst, &r)
}

// atOnce is the context of an acquire that does not wait: none.
var atOnce context.Context

// acquire serves a request, traced if there is a Trace. A request that asks for nothing except its destination may be
// nil.
func (p *Pool) acquire(ctx context.Context, dst netip.AddrPort, r *Request) (Tuple, error) {
	tr := p.Trace
	if tr == nil {
		return p.serve(ctx, dst, r, nil)
	}
	var began time.Time
	t, err := p.serve(ctx, dst, r, func() {
		began = time.Now()
		if tr.WaitStart != nil {
			tr.WaitStart(dst)
		}
	})
	switch {
	case err == nil:
		var waited time.Duration
		if !began.IsZero() {
			waited = time.Since(began)
		}
		tr.acquired(t, waited)
	case tr.Exhausted != nil && (errors.Is(err, ErrExhausted) || errors.Is(err, ErrQuota) || !began.IsZero()):
		tr.Exhausted(dst, err)
	}
	return t, err
}

// ask is a request in the terms of a shard.
type ask struct {
	held.Ask
	to   held.Addr // the destination, which Scope may map to another one for Key
	port uint16
}

func (a *ask) dst() netip.AddrPort { return netip.AddrPortFrom(a.to.Netip(), a.port) }

func (a *ask) class() class { return class{a.Src, a.Ports} }

// tuple returns what h names.
func (a *ask) tuple(h held.Hold, pl *plan) Tuple {
	return Tuple{pl.Sources(a.Key).At(h.Number()), a.to, h.Port(), a.port}
}

// serve serves a request. It waits if there is a context, and calls waits when it begins to, unless that is nil.
//
// The destination and its place are passed beside the ask that holds them: reading back what was just stored word by
// word takes 20 ns in all.
func (p *Pool) serve(ctx context.Context, dst netip.AddrPort, r *Request, waits func()) (Tuple, error) {
	st := p.ready()
	to, port := held.AddrFrom(dst.Addr()), dst.Port()
	key := p.space(to, port)
	sh, hash := st.shard(key)
	a := ask{to: to, port: port}
	a.Key, a.Hash = key, hash
	a.Rand = sh.plan.Load().Rand() // before the lock, for which others may wait
	if r != nil {
		a.add(r)
	}

	sh.mu.Lock()
	pl := sh.plan.Load()
	err := pl.refusal(&a, dst)
	if err == nil && ctx != nil && ctx.Err() != nil {
		err = fmt.Errorf("tuple: acquire towards %v: %w", dst, ctx.Err())
	}
	if err != nil {
		sh.mu.Unlock()
		return Tuple{}, err
	}
	sh.settle(pl)
	h, ok := sh.acquire(sh.held.Find(key, hash), &a, pl)
	if !ok {
		return sh.wait(ctx, &a, pl, waits)
	}
	if pl.quota != nil && pl.reuses {
		pl.quota.serve() // what was retired may have been somebody's
	}
	sh.mu.Unlock()
	return Tuple{pl.Sources(key).At(h.Number()), to, h.Port(), port}, nil
}

// add adds what a request asks for beside its destination.
func (a *ask) add(r *Request) {
	a.Owner = r.Owner
	if r.Src.IsValid() {
		a.Src = held.AddrFrom(r.Src)
	}
	if !r.Ports.IsZero() {
		a.Ports = tableOf(r.Ports)
	}
}

// acquire takes a free tuple as a asks for it, or a retired one under ReuseRetired. The destination lies at a place. It
// fails only if none will do, or a quota is used up.
func (sh *shard) acquire(at held.Place, a *ask, pl *plan) (h held.Hold, ok bool) {
	if q := pl.quota; q != nil && q.stops(a.Owner) != noQuota {
		if q.settle(); q.stops(a.Owner) != noQuota {
			return 0, false
		}
		at = sh.held.Find(a.Key, a.Hash)
	}
	if pl.maxPerDst > 0 && !pl.mayUse(at.Counts().InUse) {
		return 0, false
	}
	h, ok = at.Acquire(&a.Ask, &pl.Rules)
	if !ok && pl.reuses {
		h, ok = sh.reuse(a, at, pl)
	}
	if ok {
		sh.took(a, h, pl)
	}
	return h, ok
}

// reuse takes into use what was retired first of that which a asks for. It fails if none of the retired will do.
// Nothing that will do may be free.
func (sh *shard) reuse(a *ask, at held.Place, pl *plan) (held.Hold, bool) {
	from := pl.Sources(a.Key)
	c, ok := sh.cool.TakeOldest(a.Key, a.class(), func(h uint64) bool { return a.Fits(held.Hold(h), from) })
	if !ok {
		return 0, false
	}
	h := held.Hold(c.Hold)
	delete(sh.next, a.Key)
	sh.setDue()
	at.Reuse(h, &pl.Rules)
	if pl.quota != nil {
		pl.quota.freed(sh, a.Key, h, held.Retired) // because it is counted again, perhaps as another owner's
	}
	return h, true
}

// refusal says what keeps the pool from serving a towards dst, whatever is free; nil if nothing does.
func (pl *plan) refusal(a *ask, dst netip.AddrPort) error {
	from := pl.Sources(a.Key)
	if pl.err == nil && a.Key.IsValid() && from.Len() > 0 && a.Src == (held.Addr{}) && a.Ports == nil {
		return nil
	}
	if pl.err == ErrClosed {
		return closedError(a)
	}
	if pl.err != nil {
		return pl.err
	}
	if err := checkDst(dst); err != nil {
		return err
	}
	family := "IPv6"
	if a.to.Is4() {
		family = "IPv4"
	}
	switch {
	case !a.Key.IsValid():
		return fmt.Errorf("tuple: the Pool's Scope of %v is no destination of the same family: it must be, and have a port",
			dst)
	case pl.V4.Len()+pl.V6.Len() == 0:
		return fmt.Errorf("tuple: no source for %v: SetSources has drained all of the pool's", dst)
	case from.Len() == 0:
		return fmt.Errorf("tuple: no source for %v: none of the pool's Sources is an %s address", dst, family)
	}
	if a.Src != (held.Addr{}) {
		if _, live := from.Live(a.Src); !live {
			return fmt.Errorf("tuple: no source %v for %v: it is not one of the pool's Sources", a.Src.Netip(), dst)
		}
	}
	if a.Ports != nil && !from.Meet(a.Src, a.Ports) {
		return fmt.Errorf("tuple: no port for %v: the pool has none of the %d that were asked for", dst, a.Ports.Len())
	}
	return nil
}
