package dialer

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// plainConnector connects with a net.Dialer.
type plainConnector struct {
	a       attempt
	conn    net.Conn
	control controlFunc // a.socket.run
}

// connectors are reused, so that a dial need not allocate its attempt.
var connectors = sync.Pool{New: func() any {
	c := new(plainConnector)
	c.control, c.a.socket.each = c.a.socket.run, c.a.socket.onSocket
	return c
}}

// dialOnce makes one attempt.
func (c *call) dialOnce(ctx context.Context, remote netip.AddrPort) (net.Conn, error) {
	p := connectors.Get().(*plainConnector)
	p.a.call, p.a.remote = *c, remote
	conn, err := p.dial(ctx)
	// A connector is not reused if a Control panics or ends the goroutine, because package net may still refer to it.
	*p = plainConnector{control: p.control, a: attempt{socket: socketControl{each: p.a.socket.each}}}
	connectors.Put(p)
	return conn, err
}

func (c *plainConnector) dial(ctx context.Context) (net.Conn, error) {
	held, err := c.a.run(ctx, c)
	if _, panicked := err.(controlPanic); panicked {
		return nil, err
	}
	if err != nil {
		return nil, c.a.opError(c.a.remote, err)
	}
	if remote := remoteAddrPort(c.conn); held.pool != nil && remote.IsValid() && !sameAddrPort(remote, c.a.remote) {
		ledgerOf(held.pool).translate(held.tuple, c.a.remote, remote)
		held.translated = true
	}
	held.onLoopback = c.a.socket.path.Device == "lo"
	if c.a.tracker != nil {
		if err := c.a.tracker.adopt(c.conn, held, c.a.device()); err != nil {
			abort(c.conn)
			held.release()
			return nil, c.a.opError(c.a.remote, err)
		}
		return c.conn, nil
	}
	return wrap(c.conn, held), nil
}

// wrap makes conn a connection that gives its tuple back when it is closed.
func wrap(conn net.Conn, held lease) net.Conn {
	switch conn := conn.(type) {
	case *net.TCPConn:
		return newTCPConn(conn, held)
	case *net.UDPConn:
		return newUDPConn(conn, held)
	}
	return conn
}

// connect makes one socket with NetDialer and connects it from t in the lane l.
func (c *plainConnector) connect(ctx context.Context, t tuple.Tuple, l lane) (netip.AddrPort, error) {
	a := &c.a
	nd := *a.nd
	nd.Timeout, nd.Deadline = 0, time.Time{} // ctx has them already, and Cancel too
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
		each: a.socket.each,
	}
	defer a.socket.close()
	nd.Control, nd.ControlContext = nil, c.control
	conn, err := nd.DialContext(ctx, a.network, a.remote.String())
	if err != nil {
		if e, ok := err.(*net.OpError); ok {
			err = e.Err
		}
		if errors.Is(err, errAgain) {
			err = os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)
		}
		return netip.AddrPort{}, err
	}
	c.conn = conn
	if u, ok := conn.(*net.UDPConn); ok {
		err = a.socket.connectedUDP(u)
	}
	return localAddrPort(conn), err
}

// discard closes a connection that the caller never saw.
func (c *plainConnector) discard() error {
	if c.conn != nil {
		abort(c.conn)
		c.conn = nil
	}
	return nil
}

type controlFunc = func(ctx context.Context, network, address string, c syscall.RawConn) error

// userControl returns the caller's Control; nil if there is none. As in net.Dialer, ControlContext comes first.
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
	user  controlFunc
	once  bool          // net.Dialer would call the Control again for another try
	again error         // what a second call returns
	err   error         // the error of onSocket
	each  func(uintptr) // the method onSocket
}

// errAgain ends a second try of net.Dialer.
var errAgain = errors.New("not again")

// run is the ControlContext of a net.Dialer. net.Dialer tries EADDRNOTAVAIL, and a connection to itself, twice more if
// it thinks that the kernel chose the port. Here the kernel did not choose, so the next tuple is the better try. With
// MultipathTCP the second call may be for a refused connection that net.Dialer tries again without Multipath TCP. That
// one must run.
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
	err := c.Control(s.each)
	return cmp.Or(err, s.err)
}

func (s *socketControl) onSocket(fd uintptr) {
	if s.user != nil {
		s.path, s.chosen = sockopt.PathOf(int(fd)), sockopt.IsChosen(int(fd))
	}
	s.err = s.on(int(fd))
}

// callControl calls the caller's Control. A panic that went through net.Dialer would leave the socket open. So
// callControl returns it as an error, and it goes on when the socket is closed.
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

// abort closes a connection that the caller never saw, without TIME_WAIT.
func abort(conn net.Conn) {
	if c, ok := conn.(*net.TCPConn); ok {
		c.SetLinger(0)
	}
	conn.Close()
}
