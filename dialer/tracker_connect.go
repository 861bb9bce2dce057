package dialer

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// connecting makes the dials of a net.Dialer connect from tuples of a pool.
type connecting struct {
	call
	tracker *Tracker
}

// control is the ControlContext of a net.Dialer: it is called between socket(2) and connect(2), for each address. The
// caller's own comes before any tuple is in use.
func (c connecting) control(ctx context.Context, network, address string, raw syscall.RawConn) error {
	user := userControl(c.nd)
	if !isTCP(network) {
		if user == nil {
			return nil
		}
		return user(ctx, network, address, raw)
	}
	remote, err := resolved(network, address)
	if err != nil {
		return err
	}
	c.network = network
	if local := c.local.Addr(); local.IsValid() && !c.hasSource(remote) {
		return &net.AddrError{Err: "NetDialer.LocalAddr is of another address family", Addr: address}
	}
	a := &attempt{call: c.call, remote: remote}
	defer a.parkAside()
	for {
		if user != nil {
			if err := user(ctx, network, address, raw); err != nil {
				return err
			}
		}
		control := raw.Control(func(fd uintptr) { err = c.tracker.takes(int(fd)) })
		if err := cmp.Or(control, err); err != nil {
			return err
		}
		t, err := a.acquire(ctx)
		if err != nil {
			return err
		}
		begun := false
		control = raw.Control(func(fd uintptr) {
			begun = true
			err = a.begin(int(fd), t, c.tracker)
		})
		if !begun {
			lease{a.pool, t}.rest(0)
		}
		if err = cmp.Or(control, err); !errors.Is(err, errTaken) && !errors.Is(err, errLane) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// begin has the socket fd connect from t, and the Tracker follow it. The error is errTaken or errLane as that of try: fd is
// then another socket, as good as new. After any other error fd is to be closed, and t comes back when it is.
func (a *attempt) begin(fd int, t tuple.Tuple, tracker *Tracker) error {
	l := a.lane(t, a.pool)
	held, real, err := a.connectFD(fd, t, l)
	rest := time.Duration(0)
	switch refused := a.refusal(err, t, a.pool, l); {
	case refused == errTaken:
		err, rest = errTaken, parked
	case refused != nil:
		err = refused
	default:
		follow := tracker.follow(fd, held, real)
		if follow == nil {
			return a.explain(err, t)
		}
		err, rest = cmp.Or(err, follow), timeWait
	}
	if renew := sockopt.Renew(fd); renew != nil { // no descriptor is left, for instance
		err = renew
		if tracker.follow(fd, held, real) == nil {
			return err
		}
		rest = timeWait
	}
	if rest == parked {
		a.park(held)
	} else {
		held.rest(rest)
	}
	return err
}

// connectFD begins to connect the socket fd from t, which is held. It returns what is held then, and the tuple that the
// kernel has; the latter is not valid if it has none.
func (a *attempt) connectFD(fd int, t tuple.Tuple, l lane) (held lease, real tuple.Tuple, err error) {
	held = lease{a.pool, t}
	prepare := a.preparation(t, l)
	if err := prepare.on(fd); err != nil {
		return held, real, err
	}
	if local := prepare.local; l == bindLane {
		if !local.Addr().IsValid() {
			local = netip.AddrPortFrom(unspecified(a.remote.Addr()), local.Port())
		}
		if err := sockopt.BindPort(fd, local); err != nil {
			return held, real, err
		}
	}
	if err := sockopt.Connect(fd, a.remote); err != nil {
		return held, real, err
	}
	got, err := sockopt.Local(fd)
	if err != nil {
		return held, real, err
	}
	real = tuple.From(got, a.remote)
	held, err = a.settle(held, got, l)
	return held, real, err
}

// resolved returns the address that net.Dialer is about to connect to, as it tells it to Control: without a host if that is
// the local system.
func resolved(network, address string) (netip.AddrPort, error) {
	if strings.HasPrefix(address, ":") {
		host := "0.0.0.0"
		if strings.HasSuffix(network, "6") {
			host = "[::]"
		}
		address = host + address
	}
	remote, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.AddrPort{}, &net.AddrError{Err: err.Error(), Addr: address}
	}
	return netip.AddrPortFrom(loopbackIfUnspecified(remote.Addr().Unmap()), remote.Port()), nil
}
