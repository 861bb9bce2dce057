package dialer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

const (
	// timeWait is how long Linux keeps a tuple that it closed first (TCP_TIMEWAIT_LEN in include/net/tcp.h).
	timeWait = 60 * time.Second

	// mostIgnored bounds how often an attempt believes that a port was ignored because the sysctl just changed.
	mostIgnored = 16

	// asItEnded stands for the pool's CoolDown.
	asItEnded time.Duration = -1
)

// attempt is the dial of one address.
type attempt struct {
	call
	remote  netip.AddrPort
	routed  bool      // the kernel has a source address for remote
	refused int       // how many tuples the kernel said are taken
	until   time.Time // when Wait is over; zero before it has begun
	facts   *kernelFacts
	bind    bool          // the kernel's own choice was of no use
	aside   []tuple.Tuple // see park
	socket  socketControl
}

// dial connects from the first tuple that the kernel does not say is taken. Each tuple is given back on every way out
// but success, after its socket is closed.
func (a *attempt) dial(ctx context.Context) (net.Conn, error) {
	if a.local.Port() != 0 {
		return a.dialFrom(ctx)
	}
	defer a.parkAside()
	for {
		t, err := a.acquire(ctx)
		if err != nil {
			return nil, a.opError(a.local, a.remote, err)
		}
		conn, err := a.try(ctx, t, a.pool)
		if !errors.Is(err, errTaken) && !errors.Is(err, errLane) {
			return conn, err
		}
		if ctx.Err() != nil {
			return nil, a.opError(a.localOf(t), a.remote, ctx.Err())
		}
	}
}

// dialFrom connects from the port that the caller asked for. A port or source that is not the pool's has no account.
func (a *attempt) dialFrom(ctx context.Context) (net.Conn, error) {
	src := a.local
	if !src.Addr().IsValid() {
		src = netip.AddrPortFrom(unspecified(a.remote.Addr()), src.Port())
	}
	if sameAddrPort(src, a.remote) {
		return nil, a.opError(a.local, a.remote, errSelf)
	}
	t := tuple.From(src, a.remote)
	for {
		pool := a.pool
		switch reserve(pool, t, a.Owner) {
		case tuple.InUse, tuple.Retired:
			return nil, a.opError(a.local, a.remote, errPortInUse)
		case tuple.Foreign:
			pool = nil
			if err := a.isClosed(t); err != nil {
				return nil, a.opError(a.local, a.remote, err)
			}
		}
		conn, err := a.try(ctx, t, pool)
		switch {
		case errors.Is(err, errTaken):
			return nil, a.opError(a.local, a.remote, errPortInUse)
		case !errors.Is(err, errLane):
			return conn, err
		}
	}
}

// isClosed returns an error if the pool is closed, to which every tuple is foreign.
func (a *attempt) isClosed(foreign tuple.Tuple) error {
	src := foreign.Src()
	t, err := a.pool.TryAcquireFor(tuple.Request{Dst: a.remote, Src: src.Addr(), Ports: alloc.RangeSet(src.Port(), src.Port())})
	if err == nil { // it is no longer
		a.pool.Release(t)
	}
	if errors.Is(err, tuple.ErrClosed) {
		return err
	}
	return nil
}

// try connects from the tuple t, which is held in pool, or in none if pool is nil. The error is errTaken if the kernel
// says that t is in use, and t is then parked; errLane if it was the wrong lane, and t is then free.
func (a *attempt) try(ctx context.Context, t tuple.Tuple, pool *tuple.Pool) (conn net.Conn, err error) {
	rest := timeWait // for a caller's Control that ends the goroutine: what became of the socket is not known
	how := tuple.NeverEstablished
	held := lease{pool, t}
	defer func() {
		switch {
		case conn != nil:
		case rest == asItEnded:
			held.end(how)
		case rest == parked:
			a.park(held)
		default:
			held.rest(rest)
		}
	}()

	l := a.lane(t, pool)
	var raw net.Conn
	if a.ExclusiveUDP && a.udp && l == bindLane {
		raw, err = a.connectAlone(ctx, t, l)
	} else {
		raw, err = a.connect(ctx, t, l)
	}
	if err == nil {
		if held, err = a.settle(held, localAddrPort(raw), l); err == nil {
			if u, ok := raw.(*net.UDPConn); ok {
				return newUDPConn(u, held), nil
			}
			return newTCPConn(raw.(*net.TCPConn), held), nil
		}
		abort(raw)
	}
	rest = 0
	switch refused := a.refusal(err, t, pool, l); {
	case refused == errTaken && a.local.Port() == 0:
		rest = parked
		return nil, errTaken
	case refused != nil:
		return nil, refused
	case !a.udp && (ctx.Err() != nil || isTimeout(err)): // net may notice a deadline before ctx does
		rest, how = asItEnded, a.afterGivingUp(t)
	case !a.udp && isSyscall(err, "connect"):
		rest = asItEnded
	}
	if c, ok := err.(controlError); ok {
		err = c.error
	}
	if _, panicked := err.(controlPanic); panicked {
		return nil, err
	}
	return nil, a.opError(a.localOf(t), a.remote, a.explain(err, t))
}

// settle returns what is held now that the socket is connected, from got in the lane l: the tuple is another one where the
// kernel was to choose, where the caller's Control bound the socket, and where Sources name a broadcast address. The error
// is errTaken or errLane if the connection is not to be kept.
func (a *attempt) settle(held lease, got netip.AddrPort, l lane) (lease, error) {
	src := held.tuple.Src()
	ignored := got.Port() != src.Port() && l == rangeLane
	if ignored {
		a.readFacts() // the sysctl may no longer say what it said
	}
	controlled := userControl(a.nd) != nil
	real := tuple.From(got, a.remote)
	another := got.Port() != src.Port() || !src.Addr().IsUnspecified() && got.Addr().WithZone("") != src.Addr()
	switch {
	case sameAddrPort(got, a.remote):
		return held, errTaken // TCP's simultaneous open, or UDP: the socket is connected to itself
	case ignored && (!controlled || a.lane(held.tuple, held.pool) != l):
		if a.refused++; a.refused > mostIgnored {
			return held, errTaken
		}
		return held, errLane
	case another:
		moved, state := held.moveTo(real, a.Owner)
		if !moved && l == kernelLane && (!controlled || state != tuple.Foreign) {
			return held, errTaken // it cools down in the pool for longer than in the kernel, or the sysctl has changed
		}
	}
	return held, nil
}

// refusal returns what the end of a try in the lane l means: errLane if the same or another tuple is to be tried in another
// lane, errTaken if the kernel has another use for t, nil if trying on does not help.
func (a *attempt) refusal(err error, t tuple.Tuple, pool *tuple.Pool, l lane) error {
	taken := errors.Is(err, errTaken)
	switch {
	case errors.Is(err, errLane):
		if l == bindLane {
			a.otherNamespace()
		}
		return errLane
	case !taken && !a.isTaken(err, t):
		return nil
	case l == kernelLane:
		a.bind = true // t itself may be free
		return errLane
	case l != plainLane && !a.udp:
		if a.doubtFacts(); a.lane(t, pool) != l {
			return errLane
		}
	}
	return errTaken
}

// doubtFacts has what the lanes depend on read again, for somebody may have changed the sysctls: if that was last done a
// while ago, and ever more seldom while the kernel goes on refusing one tuple after the other.
func (a *attempt) doubtFacts() {
	a.refused++
	if time.Since(a.facts.read) > staleFacts || a.refused >= 4 && a.refused&(a.refused-1) == 0 {
		a.readFacts()
	}
}

// isTaken reports whether err is the kernel saying that t is in use, as opposed to a destination or source that cannot
// work with any port.
func (a *attempt) isTaken(err error, t tuple.Tuple) bool {
	if _, ok := err.(controlError); ok {
		return false // whatever it is, it is the caller's own
	}
	switch {
	case (isSyscall(err, "bind") || isSyscall(err, "connect")) && errors.Is(err, syscall.EADDRINUSE):
		return true
	case isSyscall(err, "connect") && errors.Is(err, syscall.EADDRNOTAVAIL) && !a.udp:
		// With no source given, the kernel says the same if it has none itself.
		a.routed = a.routed || !t.Src().Addr().IsUnspecified() || a.local.Addr().IsValid() || hasSourceFor(a.remote)
		return a.routed
	}
	return false
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

// localOf returns the local end of t as far as it is known before the kernel has chosen an address, with the zone that a
// tuple does not have.
func (a *attempt) localOf(t tuple.Tuple) netip.AddrPort {
	ip := t.Src().Addr()
	switch {
	case ip.IsUnspecified(), ip == a.local.Addr().WithZone(""):
		ip = a.local.Addr()
	case ip.IsLinkLocalUnicast():
		ip = ip.WithZone(a.remote.Addr().Zone())
	}
	return netip.AddrPortFrom(ip, t.Src().Port())
}

func localAddrPort(conn net.Conn) netip.AddrPort {
	switch local := conn.LocalAddr().(type) {
	case *net.TCPAddr:
		return local.AddrPort()
	case *net.UDPAddr:
		return local.AddrPort()
	}
	return netip.AddrPort{}
}

func unspecified(family netip.Addr) netip.Addr {
	if family.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// sameAddrPort compares without regard to the zone, which a loopback or a host's own address may or may not carry.
func sameAddrPort(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && a.Addr().Unmap().WithZone("") == b.Addr().Unmap().WithZone("")
}
