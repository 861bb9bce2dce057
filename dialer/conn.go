package dialer

import (
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// TCPConn is a TCP connection whose tuple goes back to its pool when it is closed. It embeds the [*net.TCPConn], with all
// its methods: io.Copy between two of them splices, and SyscallConn, CloseWrite, SetKeepAlive and so on work.
//
// A TCPConn comes from a Dialer and must not be copied. It is safe for concurrent use as a net.TCPConn is. One that is
// never closed gives its tuple back when it is garbage-collected, as its file descriptor is.
type TCPConn struct {
	*net.TCPConn
	held    lease
	cleanup runtime.Cleanup
	once    sync.Once
}

func newTCPConn(raw *net.TCPConn, held lease) *TCPConn {
	c := &TCPConn{TCPConn: raw, held: held}
	if held.pool != nil {
		// On raw and not on c, for a caller may keep only what NetConn returns. The collector closes the descriptor in
		// the same cycle, and the tuple then rests longer than that takes.
		c.cleanup = runtime.AddCleanup(raw, func(l lease) { l.end(timeWait) }, held)
	}
	return c
}

// NetConn returns the bare [*net.TCPConn], for code that looks for that very type. Close the TCPConn rather than it: if
// only the bare one is closed, the tuple comes back when the TCPConn is closed or garbage-collected.
func (c *TCPConn) NetConn() net.Conn { return c.TCPConn }

// Close closes the connection and then gives its tuple back: free at once if the peer closed first or the connection was
// reset, and after 60 seconds if TIME_WAIT is on this side.
func (c *TCPConn) Close() error {
	closing := false
	var err error
	c.once.Do(func() {
		closing = true
		rest := c.restAfterClose()
		err = c.TCPConn.Close() // returns when close(2) has, and no Read or Write uses the descriptor any more
		c.cleanup.Stop()
		c.held.end(rest)
	})
	if !closing {
		return c.TCPConn.Close() // the error for a connection that is closed
	}
	return err
}

// restAfterClose returns how long the tuple must rest if the connection is closed now. Where in doubt it is in TIME_WAIT.
func (c *TCPConn) restAfterClose() time.Duration {
	s := c.state()
	switch {
	case s.TCP == sockopt.CloseWait, s.TCP == sockopt.LastAck:
		return 0
	case s.TCP == sockopt.Close && !s.OnDevice: // it was reset, or both ends have shut down: TIME_WAIT is no longer the socket's affair
		return restOf(localAddrPort(c.TCPConn), c.held.tuple.Dst())
	case s.Abort:
		return 0
	}
	return timeWait
}

// state returns the state of the socket, the zero State if it is not to be had.
func (c *TCPConn) state() (s sockopt.State) {
	raw, err := c.SyscallConn()
	if err != nil {
		return s
	}
	raw.Control(func(fd uintptr) { s, _ = sockopt.Read(int(fd)) })
	return s
}

// lease is a tuple in use, and the pool to give it back to; nil if it is no pool's.
type lease struct {
	pool  *tuple.Pool
	tuple tuple.Tuple
}

// end gives the tuple back: free after rest.
func (l lease) end(rest time.Duration) {
	if l.pool != nil {
		l.pool.Retire(l.tuple, rest)
	}
}

// moveTo exchanges the tuple for the one that the kernel chose, if the pool has that one.
func (l lease) moveTo(t tuple.Tuple) lease {
	if l.pool == nil || !l.pool.Reserve(t) {
		return l
	}
	l.end(0)
	l.tuple = t
	return l
}
