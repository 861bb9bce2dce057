package dialer

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// connect makes one socket by NetDialer and connects it from t in the lane l.
func (a *attempt) connect(ctx context.Context, t tuple.Tuple, l lane) (net.Conn, error) {
	nd := *a.nd
	nd.Timeout, nd.Deadline = 0, time.Time{} // ctx has them already, and Cancel
	//lint:ignore SA1019 see dialContext
	nd.Cancel = nil
	local := a.localOf(t)
	nd.LocalAddr = nil
	switch {
	case l == bindLane, l == plainLane && a.local.Port() != 0:
		nd.LocalAddr = a.netAddr(local)
	case l == plainLane && local.Addr().IsValid():
		nd.LocalAddr = a.netAddr(netip.AddrPortFrom(local.Addr(), 0))
	}
	a.socket = socketControl{
		preparation: a.preparation(t, l), user: userControl(a.nd), once: nd.LocalAddr == nil && !nd.MultipathTCP(),
	}
	nd.Control, nd.ControlContext = nil, a.socket.run
	conn, err := nd.DialContext(ctx, a.network, a.remote.String())
	if err != nil {
		if e, ok := err.(*net.OpError); ok {
			err = e.Err
		}
		if errors.Is(err, errAgain) {
			err = os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)
		}
		return nil, err
	}
	if u, ok := conn.(*net.UDPConn); ok {
		drain(u)
	}
	return conn, nil
}

type controlFunc = func(ctx context.Context, network, address string, c syscall.RawConn) error

// userControl returns the caller's own Control, nil if there is none. As in net.Dialer, ControlContext comes first.
func userControl(nd *net.Dialer) controlFunc {
	if nd.ControlContext != nil || nd.Control == nil {
		return nd.ControlContext
	}
	return func(_ context.Context, network, address string, c syscall.RawConn) error {
		return nd.Control(network, address, c)
	}
}

// socketControl prepares a socket for its lane.
type socketControl struct {
	preparation
	user   controlFunc
	once   bool
	again  error // what a second run returns
	err    error // of onSocket
	device bool  // the caller bound the socket to a device
}

// errAgain is how net.Dialer is kept from trying again what it takes for a poor choice of the kernel's.
var errAgain = errors.New("not again")

// run is the ControlContext of a net.Dialer. Where net.Dialer thinks that the kernel chose the port, it tries
// EADDRNOTAVAIL and a connection to itself twice more; but the kernel was not to choose, and the next tuple is the better
// try. With MultipathTCP it may be a refused connection that is tried again, without it, and that is as it should be.
func (s *socketControl) run(ctx context.Context, network, address string, c syscall.RawConn) error {
	if s.again != nil {
		return s.again
	}
	err := s.prepare(ctx, network, address, c)
	if s.once {
		if s.again = err; err == nil {
			s.again = errAgain
		}
	}
	return err
}

func (s *socketControl) prepare(ctx context.Context, network, address string, c syscall.RawConn) error {
	if s.user != nil {
		if err := callControl(s.user, ctx, network, address, c); err != nil {
			return controlError{err}
		}
	}
	err := c.Control(s.onSocket)
	return cmp.Or(err, s.err)
}

func (s *socketControl) onSocket(fd uintptr) {
	if s.err = s.on(int(fd)); s.user != nil {
		s.device = sockopt.OnDevice(int(fd))
	}
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
func abort(conn net.Conn) {
	if c, ok := conn.(*net.TCPConn); ok {
		c.SetLinger(0)
	}
	conn.Close()
}

// hasSourceFor reports whether the kernel has an address of its own to connect to remote from. Where the answer is another
// one, no UDP port is left for instance, it takes it that it has.
func hasSourceFor(remote netip.AddrPort) bool {
	_, err := sourceFor(remote)
	return !errors.Is(err, syscall.EADDRNOTAVAIL)
}

// sourceFor returns the source address that the kernel takes towards remote: that of a UDP socket connected there. It
// sends nothing.
func sourceFor(remote netip.AddrPort) (netip.Addr, error) {
	conn, err := net.Dial("udp", remote.String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr(), nil
}
