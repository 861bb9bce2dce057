package dialer

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/ephemera-go/ephemera/tuple"
)

// connect makes one socket by NetDialer and connects it from t in the lane l.
func (a *attempt) connect(ctx context.Context, t tuple.Tuple, l lane) (*net.TCPConn, error) {
	nd := *a.nd
	network := a.network
	nd.Timeout, nd.Deadline, nd.Cancel = 0, time.Time{}, nil // ctx has them already
	local := a.localOf(t)
	nd.LocalAddr = nil
	switch {
	case l == bindLane:
		nd.LocalAddr = net.TCPAddrFromAddrPort(local)
		if !local.Addr().IsValid() {
			network = family(a.remote.Addr()) // or an IPv6 socket would take the port of IPv4 as well
		}
	case local.Addr().IsValid():
		nd.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local.Addr(), 0))
	}
	control := socketControl{user: a.userControl(), lane: l, port: t.Src().Port(), bound: nd.LocalAddr != nil}
	nd.Control, nd.ControlContext = nil, control.run
	conn, err := nd.DialContext(ctx, network, a.remote.String())
	if err != nil {
		if e, ok := err.(*net.OpError); ok {
			err = e.Err
		}
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

type controlFunc = func(ctx context.Context, network, address string, c syscall.RawConn) error

// userControl returns the caller's own Control, nil if there is none. As in net.Dialer, ControlContext comes first.
func (a *attempt) userControl() controlFunc {
	if a.nd.ControlContext != nil || a.nd.Control == nil {
		return a.nd.ControlContext
	}
	return func(_ context.Context, network, address string, c syscall.RawConn) error {
		return a.nd.Control(network, address, c)
	}
}

// socketControl prepares a socket for its lane.
type socketControl struct {
	user  controlFunc
	lane  lane
	port  uint16
	bound bool
	ran   bool
}

// run is the ControlContext of a net.Dialer. If the kernel was to choose the port, net.Dialer tries EADDRNOTAVAIL and a
// connection to itself twice more; here it was not to choose, and the next tuple is the better try.
func (s *socketControl) run(ctx context.Context, network, address string, c syscall.RawConn) error {
	if s.ran && s.lane != kernelLane {
		return errTaken
	}
	s.ran = true
	if s.user != nil {
		if err := callControl(s.user, ctx, network, address, c); err != nil {
			return err
		}
	}
	var err error
	if e := c.Control(func(fd uintptr) { err = s.lane.prepare(int(fd), s.port, s.bound) }); e != nil {
		return e
	}
	return err
}

// callControl calls the caller's Control. If it panicked through net.Dialer, that would leave the socket open: so the
// panic goes on when the socket is closed.
func callControl(f controlFunc, ctx context.Context, network, address string, c syscall.RawConn) (err error) {
	returned := false
	defer func() {
		if !returned {
			if value := recover(); value != nil {
				err = controlPanic{value}
			}
		}
	}()
	err = f(ctx, network, address, c)
	returned = true
	return err
}

// abort closes a connection that the caller never saw, and leaves no TIME_WAIT.
func abort(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}

// hasRoute reports whether the kernel finds a source address for remote. It sends nothing.
func hasRoute(ctx context.Context, remote netip.AddrPort) bool {
	_, ok := sourceFor(ctx, remote)
	return ok
}

// sourceFor returns the source address that the kernel takes towards remote: that of a UDP socket connected there.
func sourceFor(ctx context.Context, remote netip.AddrPort) (netip.Addr, bool) {
	var nd net.Dialer
	conn, err := nd.DialContext(context.WithoutCancel(ctx), "udp", remote.String())
	if err != nil {
		return netip.Addr{}, false
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr(), true
}

func family(ip netip.Addr) string {
	if ip.Is4() {
		return "tcp4"
	}
	return "tcp6"
}
