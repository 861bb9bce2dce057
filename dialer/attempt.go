package dialer

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// attempt is the dial of one address.
type attempt struct {
	call
	remote   netip.AddrPort
	settings *settings
	until    time.Time // when Wait ends; zero before the wait begins
	socket   socketControl

	chosen        netip.Addr // the source that the kernel chooses; not valid until it was asked
	taken         int        // how many tuples others had
	forbidden     int        // how many ports a policy forbade
	unexplained   int        // how many tuples the kernel refused although it has nothing there
	kernelRefused bool       // the kernel refused a port of its own choice
	leaveToKernel bool       // the next try is the last, and the kernel chooses the port
	discarded     bool       // a connection was closed because its port was not the one of its tuple
	moves         int        // how often the settings turned out to belong to another namespace
}

// connector opens the sockets of an attempt, one after the other.
type connector interface {
	// connect opens a socket and connects it from t in the lane l. The local end is not valid if the kernel does not
	// tell it.
	connect(ctx context.Context, t tuple.Tuple, l lane) (local netip.AddrPort, err error)

	// discard closes the socket, if there is one, and leaves no TIME_WAIT. An error ends the dial.
	discard() error
}

const (
	// If a policy forbids that many ports in one dial, it is taken to forbid all: in a pool that does not name its
	// ports, and in one that does.
	mostForbidden, mostForbiddenNamed = 16, 1024

	// After that many unexplained refusals, the answer of the kernel does not depend on the tuple, and the dial ends.
	mostUnexplained = 4

	// After that many taken tuples, a dial asks the kernel for all tuples that others have.
	fewestTaken = 3

	// mostMoves is how often the settings are read again because the socket is in another namespace.
	mostMoves = 2
)

// run connects from the first tuple that the kernel accepts. Each refused tuple goes back after its socket is closed.
func (a *attempt) run(ctx context.Context, c connector) (lease, error) {
	a.settings = currentSettings()
	ledgerOf(a.pool).follow(a.pool, a.transport(), a.settings)
	if a.local.Port() != 0 {
		return a.runFrom(ctx, c)
	}
	// A process that may not bind can use UDP only from a port that the kernel chooses.
	a.leaveToKernel = a.udp && isImplicit(a.pool) && ledgerOf(a.pool).forbids() != nil
	for {
		t, err := a.acquire(ctx)
		if err != nil {
			return lease{}, err
		}
		held := lease{pool: a.pool, tuple: t}
		kept, r := a.try(ctx, c, held)
		switch {
		case r.of == nothing:
			return kept, nil
		case r.of == theDial || a.leaveToKernel || !a.next(held, r):
			a.giveBack(ctx, held, r)
			if src := t.Src().Addr(); r.of == theDial && !src.IsUnspecified() {
				a.source = src // the error names it
			}
			return lease{}, a.explain(r.err, held.tuple)
		case ctx.Err() != nil:
			return lease{}, ended(ctx)
		}
	}
}

// runFrom connects from the port that the caller asked for. If the pool does not have that port and source, nothing is
// recorded.
func (a *attempt) runFrom(ctx context.Context, c connector) (lease, error) {
	src := a.local
	if !src.Addr().IsValid() {
		src = netip.AddrPortFrom(unspecified(a.remote.Addr()), src.Port())
	}
	if sameAddrPort(src, a.remote) {
		return lease{}, errSelf
	}
	held := lease{pool: a.pool, tuple: tuple.From(src, a.remote)}
	switch was, ok := a.claim(held.tuple); {
	case ok:
	case was != tuple.Foreign:
		return lease{}, errPortInUse
	default:
		held.pool = nil
		if err := a.isClosed(src); err != nil {
			return lease{}, err
		}
	}
	kept, r := a.try(ctx, c, held)
	switch r.of {
	case nothing:
		return kept, nil
	case theDial, thePolicy:
		a.giveBack(ctx, held, r)
		return lease{}, a.explain(r.err, held.tuple)
	}
	held.yield(r.freeIn)
	return lease{}, errPortInUse
}

// claim takes t into use if no socket of this pool has it and no CoolDown of the user keeps it. The kernel decides
// about the rest, except for UDP: there a tuple that others have stays theirs.
func (a *attempt) claim(t tuple.Tuple) (was tuple.State, ok bool) {
	if !a.udp {
		return pools.Claim(a.pool, t, a.d.Owner)
	}
	was = reserve(a.pool, t, a.d.Owner)
	return was, was == tuple.Free
}

// isClosed returns an error if the pool is closed, because then every tuple is foreign to it.
func (a *attempt) isClosed(src netip.AddrPort) error {
	port := alloc.RangeSet(src.Port(), src.Port())
	t, err := a.pool.TryAcquireFor(tuple.Request{Dst: a.remote, Src: src.Addr(), Ports: port})
	if err == nil { // it is no longer foreign
		a.pool.Release(t)
	}
	if errors.Is(err, tuple.ErrClosed) {
		return err
	}
	return nil
}

// try connects from one tuple, in one lane after the other, until the tuple works or the refusal has a reason. The
// tuple stays in use. A socket that failed is closed.
func (a *attempt) try(ctx context.Context, c connector, held lease) (kept lease, r refusal) {
	returned := false
	defer func() {
		if !returned { // a caller's Control ended the goroutine, and the state of the socket is unknown
			held.abandon()
		}
	}()
	lanes, twice := a.lanes(held.tuple, held.pool), false
	for i := 0; i < len(lanes) && lanes[i] != noLane; i++ {
		before := r
		local, err := c.connect(ctx, held.tuple, lanes[i])
		if r = a.refusalOf(err, held.tuple, lanes[i]); r.of == nothing {
			kept, r = a.settle(held, local, lanes[i])
		}
		if r.of == nothing {
			break
		}
		if before.of == theTuple && r.of == thePort {
			r.freeIn = silence // somebody bound it, or a connection with the tuple leads elsewhere
		}
		a.kernelRefused = a.kernelRefused || lanes[i] == kernelLane
		if err := c.discard(); err != nil {
			r = refusal{of: theDial, err: err, pending: true}
		}
		switch {
		case r.of == theLane:
			lanes, i = a.lanes(held.tuple, held.pool), -1
		case r.of == theTuple && !twice && !a.leaveToKernel: // the kernel may have let go of it just now
			twice = true
			i--
		}
		if r.of == theDial || r.of == theSocket {
			break
		}
	}
	returned = true
	return kept, r
}

// settle decides about a connection from local in the lane l. It is kept if it has the tuple that is held, or if the
// pool can record its real tuple. A dial closes at most one connection because of its port, whatever the kernel does.
func (a *attempt) settle(held lease, local netip.AddrPort, l lane) (lease, refusal) {
	src := held.tuple.Src()
	samePort := local.Port() == src.Port()
	sameAddr := src.Addr().IsUnspecified() || local.Addr().WithZone("") == src.Addr()
	switch {
	case !local.IsValid():
		return held, refusal{} // the tuple that was asked for is the best guess
	case sameAddrPort(local, a.remote): // by TCP's simultaneous open, or UDP
		return held, refusal{of: theSocket, err: errSelf, freeIn: refusedFor}
	case samePort && sameAddr, held.pool == nil:
		return held, refusal{}
	}
	mayDiscard := !a.discarded && !a.leaveToKernel && userControl(a.nd) == nil // a Control may have bound the socket
	if mayDiscard && l == rangeLane && !samePort {
		a.discarded = true
		if a.settings = readSettings(a.settings); a.settings.kernels.Contains(src.Port()) {
			a.settings = a.settings.ignoresRange()
		}
		return held, refusal{of: theLane}
	}
	real := tuple.From(local, a.remote)
	was, ok := a.claim(real)
	switch {
	case ok:
		held.release()
		held.tuple = real
	case mayDiscard && l == kernelLane && (was != tuple.Foreign || !isImplicit(a.pool)):
		a.discarded = true // it cools down in the pool for longer than in the kernel
		return held, refusal{of: theLane}
	}
	return held, refusal{}
}

// next reports whether the dial should try another tuple. If so, it gives back the refused one.
func (a *attempt) next(held lease, r refusal) bool {
	l := ledgerOf(a.pool)
	switch r.of {
	case thePolicy:
		l.bar(held.tuple.Src().Port(), r)
		a.forbidden++
		if a.forbidden == mostForbiddenNamed || isImplicit(a.pool) && (a.udp || a.forbidden == mostForbidden) {
			return a.lastTry(held)
		}
	case theTuple:
		if a.unexplained++; a.unexplained == mostUnexplained {
			if !a.isUsed(held.tuple.Src()) {
				return a.lastTry(held)
			}
			a.unexplained = 0
		}
	}
	held.yield(r.freeIn)
	if a.taken++; a.taken == mostForbidden && a.udp && isImplicit(a.pool) {
		a.leaveToKernel = true
	}
	if a.taken >= fewestTaken {
		a.reconcile(takeAll, l.rounds.Load())
	}
	return true
}

// lastTry lets the kernel choose the port of the next try, as it does for net.Dialer. It fails if the pool names its
// ports.
func (a *attempt) lastTry(held lease) bool {
	if !isImplicit(a.pool) {
		return false
	}
	a.leaveToKernel = true
	held.release()
	return true
}
