package dialer

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// connecting connects the dials of a net.Dialer from tuples of a pool.
type connecting struct {
	call
	tracker *Tracker
}

// control is the ControlContext of a net.Dialer. net.Dialer calls it between socket(2) and connect(2), for each
// address.
func (c connecting) control(ctx context.Context, network, address string, raw syscall.RawConn) error {
	if !isTCP(network) {
		if user := userControl(c.nd); user != nil {
			return user(ctx, network, address, raw)
		}
		return nil
	}
	remote, err := resolved(network, address)
	if err != nil {
		return err
	}
	c.network = network
	if local := c.local.Addr(); local.IsValid() && !c.hasSource(remote) {
		return &net.AddrError{Err: "NetDialer.LocalAddr is of another address family", Addr: address}
	}
	b := &behindConnector{a: attempt{call: c.call, remote: remote}, tracker: c.tracker, raw: raw, address: address}
	held, err := b.a.run(ctx, b)
	if p, panicked := err.(controlPanic); panicked {
		panic(p.value)
	}
	if err != nil {
		return err
	}
	control := raw.Control(func(fd uintptr) { err = c.tracker.tcp.follow(int(fd), held, b.real, b.a.device()) })
	if err = cmp.Or(control, err); err != nil {
		if b.discard() == nil {
			held.release()
		} else {
			held.abandon()
		}
	}
	return err
}

// behindConnector connects sockets behind the descriptor of a net.Dialer, one after the other.
type behindConnector struct {
	a       attempt
	tracker *Tracker
	raw     syscall.RawConn
	address string
	real    tuple.Tuple // the tuple in the kernel; not valid if there is none
}

// connect begins to connect the socket. net.Dialer then waits for that connect.
func (c *behindConnector) connect(ctx context.Context, t tuple.Tuple, l lane) (local netip.AddrPort, err error) {
	if user := userControl(c.a.nd); user != nil {
		if err := callControl(user, ctx, c.a.network, c.address, c.raw); err != nil {
			return local, controlError{err}
		}
	}
	control := c.raw.Control(func(fd uintptr) { local, err = c.begin(int(fd), t, l) })
	return local, cmp.Or(control, err)
}

func (c *behindConnector) begin(fd int, t tuple.Tuple, l lane) (local netip.AddrPort, err error) {
	if !sockopt.IsTCP(fd) { // SetMultipathTCP was called after Tracker.NetDialer
		return local, errMultipath
	}
	if err := c.tracker.tcp.takes(fd); err != nil {
		return local, err
	}
	prepare := c.a.preparation(t, l)
	if userControl(c.a.nd) != nil {
		prepare.path, prepare.chosen = sockopt.PathOf(fd), sockopt.IsChosen(fd)
	}
	c.a.socket = socketControl{preparation: prepare}
	if err := prepare.on(fd); err != nil {
		return local, err
	}
	if l == bindLane {
		if err := sockopt.BindPort(fd, prepare.bound()); err != nil {
			return local, err
		}
	}
	if err := sockopt.Connect(fd, c.a.remote); err != nil {
		return local, err
	}
	if local, err = sockopt.Local(fd); err == nil {
		c.real = tuple.From(local, c.a.remote)
	}
	return local, err
}

// discard puts a fresh socket behind the descriptor.
func (c *behindConnector) discard() (err error) {
	c.real = tuple.Tuple{}
	control := c.raw.Control(func(fd uintptr) { err = sockopt.Renew(int(fd)) }) // fails if no descriptor is left
	return cmp.Or(control, err)
}

// resolved returns the address to which net.Dialer is about to connect, from what net.Dialer passes to Control. That
// has no host for the local system.
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
