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

// Request describes the tuple that TryAcquireFor and AcquireFor should return. Only Dst is required: the zero value of
// each other field accepts any tuple. A Request may be copied.
type Request struct {
	// Dst is the destination.
	Dst netip.AddrPort

	// Src is the source address. It must be one of the Pool's sources, so a Pool without Sources refuses it. The zero
	// Addr lets Policy choose.
	Src netip.Addr

	// Ports are the source ports to choose among. Ports that the Pool does not have are ignored. The set may come from
	// alloc.Set.Slice, or be "1027-65535/16", the ports that are 3 modulo 16, for a database that picks the shard by
	// the client's port. The zero Set means all ports of the Pool.
	//
	// Make a set once and use it for many requests: the first request with a new set costs 0.2 ms.
	Ports alloc.Set

	// Owner names whom the tuple is for, such as a crawler's tenant or a proxy's client. MaxPerOwner, MaxWaiters and
	// StickyOwner tell owners apart. The empty string means no owner.
	Owner string
}

// TryAcquire takes a free tuple towards dst into use. It does not wait: if no tuple is free, the error is an
// *ExhaustedError, in which errors.Is finds ErrExhausted. If a quota is used up, it is a *QuotaError, in which
// errors.Is finds ErrQuota. If the Pool is closed, errors.Is finds ErrClosed.
//
// A tuple that comes free goes to the first waiter that can use it, before any TryAcquire.
func (p *Pool) TryAcquire(dst netip.AddrPort) (Tuple, error) {
	return p.acquire(atOnce, dst, nil)
}

// Acquire takes a free tuple towards dst into use. If none is free or a quota is used up, it waits until ctx ends.
// Waiters for a destination are served first come, first served, as soon as a tuple is released or has cooled down. A
// waiter whose owner has used up its quota does not hold up the others.
//
// If Acquire fails, errors.Is finds in the error:
//
//   - ctx.Err(), and ErrExhausted or ErrQuota, if ctx ends while Acquire waits.
//   - ErrQueueFull, and ErrExhausted or ErrQuota, if the line is full (Pool.MaxWaiters).
//   - Only ErrClosed, if the Pool is closed.
//   - Only ctx.Err(), if ctx has ended before the call, even if a tuple is free.
//
// If ctx ends at the instant when Acquire is given a tuple, Acquire returns the tuple and no error.
func (p *Pool) Acquire(ctx context.Context, dst netip.AddrPort) (Tuple, error) {
	return p.acquire(ctx, dst, nil)
}

// TryAcquireFor is TryAcquire for a Request. Each free port of the source that fits the Request is equally likely. The
// cost does not depend on how few there are.
func (p *Pool) TryAcquireFor(r Request) (Tuple, error) { return p.acquire(atOnce, r.Dst, &r) }

// AcquireFor is Acquire for a Request.
func (p *Pool) AcquireFor(ctx context.Context, r Request) (Tuple, error) {
	return p.acquire(ctx, r.Dst, &r)
}

// atOnce is nil, the context of an acquire that does not wait.
var atOnce context.Context

// acquire serves a request, which may be nil if it asks for nothing except its destination.
func (p *Pool) acquire(ctx context.Context, dst netip.AddrPort, r *Request) (Tuple, error) {
	if p.Trace != nil {
		return p.acquireTraced(ctx, dst, r)
	}
	return p.serve(ctx, dst, r, nil)
}

func (p *Pool) acquireTraced(ctx context.Context, dst netip.AddrPort, r *Request) (Tuple, error) {
	tr := p.Trace
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
	to   held.Addr // the destination as asked for; Scope may map it to another one for Key
	port uint16
}

func (a *ask) dst() netip.AddrPort { return netip.AddrPortFrom(a.to.Netip(), a.port) }

func (a *ask) class() class { return class{a.Src, a.Ports} }

// tuple returns the Tuple that h names.
func (a *ask) tuple(h held.Hold, pl *plan) Tuple {
	return Tuple{pl.Sources(a.Key).At(h.Number()), a.to, h.Port(), a.port}
}

// serve serves a request. If ctx is not nil, it may wait. It calls waits, if that is not nil, when it begins to wait.
//
// The destination and its hash stay in variables although the ask has them too: to read back what was just stored word
// by word takes 20 ns in all.
func (p *Pool) serve(ctx context.Context, dst netip.AddrPort, r *Request, waits func()) (Tuple, error) {
	st := p.ready()
	to, port := held.AddrFrom(dst.Addr()), dst.Port()
	key := p.space(to, port)
	sh, hash := st.shard(key)
	a := ask{to: to, port: port}
	a.Key, a.Hash = key, hash
	a.Rand = sh.plan.Load().Rand() // before the lock, to hold it for a shorter time
	if r != nil {
		a.add(r)
	}

	sh.mu.Lock()
	pl := sh.plan.Load()
	err := pl.refusal(&a, dst)
	if err == nil && ctx != nil && ctx.Err() != nil {
		err = fmt.Errorf("tuple: acquire: %w (towards %v)", ctx.Err(), dst)
	}
	if err != nil {
		sh.mu.Unlock()
		return Tuple{}, err
	}
	sh.settle(pl)
	h, ok := sh.acquire(sh.held.Find(key, hash), &a, pl)
	switch {
	case !ok && ctx == nil:
		err = sh.refused(&a, nil)
		sh.mu.Unlock()
		return Tuple{}, err
	case !ok:
		return sh.wait(ctx, &a, pl, waits)
	}
	if pl.quota != nil && pl.reuses {
		pl.quota.serve() // the reused tuple may have counted for another owner
	}
	sh.mu.Unlock()
	return Tuple{pl.Sources(key).At(h.Number()), to, h.Port(), port}, nil
}

// add adds what a request asks for besides its destination.
func (a *ask) add(r *Request) {
	a.Owner = r.Owner
	if r.Src.IsValid() {
		a.Src = held.AddrFrom(r.Src)
	}
	if !r.Ports.IsZero() {
		a.Ports = tableOf(r.Ports)
	}
}

// acquire takes into use a free tuple that fits a or, under ReuseRetired, a retired one. at is the place of the
// destination. It fails only if no tuple fits, or if a quota is used up.
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
		h, ok = sh.reuse(a, sh.held.Find(a.Key, a.Hash), pl) // which Acquire may have moved
	}
	if ok {
		sh.took(a, h, pl)
	}
	return h, ok
}

// reuse takes into use the tuple that was retired first among those that fit a. It fails if no retired tuple fits. The
// caller must have found no free one.
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
		pl.quota.freed(sh, a.Key, h, held.Retired) // because the caller counts it again, perhaps for another owner
	}
	return h, true
}

// refusal returns why the pool can never serve a with its present sources, nil if it can.
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
		return fmt.Errorf("tuple: Pool.Scope must return an address and port of the same family: Scope of %v", dst)
	case pl.V4.Len()+pl.V6.Len() == 0:
		return errors.New("tuple: no source: SetSources has drained them all: call it with sources")
	case from.Len() == 0:
		return fmt.Errorf("tuple: no source: none of the Pool's sources is an %s address", family)
	}
	if a.Src != (held.Addr{}) {
		if _, live := from.Live(a.Src); !live {
			return fmt.Errorf("tuple: no source: the address is not one of the Pool's Sources: %v", a.Src.Netip())
		}
	}
	if a.Ports != nil && !from.Meet(a.Src, a.Ports) {
		return fmt.Errorf("tuple: no port: the Pool has none of Request.Ports: %d ports", a.Ports.Len())
	}
	return nil
}
