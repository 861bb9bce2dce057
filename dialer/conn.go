package dialer

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// TCPConn is a TCP connection whose tuple goes back to its pool when it is closed. It embeds the [*net.TCPConn], with all
// its methods: io.Copy between two of them splices, and SyscallConn, CloseWrite, SetKeepAlive and so on work. io.CopyN, whose
// io.LimitedReader package net looks into for its own types alone, splices from what NetConn returns.
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
		c.cleanup = runtime.AddCleanup(raw, func(l lease) { l.rest(max(l.pool.CoolDown.ClosedHere, timeWait)) }, held)
	}
	return c
}

// NetConn returns the bare [*net.TCPConn], for code that looks for that very type. Close the TCPConn rather than it: if
// only the bare one is closed, the tuple comes back when the TCPConn is closed or garbage-collected.
func (c *TCPConn) NetConn() net.Conn { return c.TCPConn }

// Close closes the connection and then gives its tuple back, which rests as long as the pool's CoolDown says of how the
// connection ended: tuple.ClosedHere if TIME_WAIT is on this side, tuple.ClosedByPeer if the peer closed first or reset it, and
// tuple.Reset if this side resets it, as Linux does of its own accord where something is left unread. After a reset it is free
// at once unless CoolDown.Reset is set.
func (c *TCPConn) Close() error {
	closing := false
	var err error
	c.once.Do(func() {
		closing = true
		how, sure, namespace := c.ending()
		err = c.TCPConn.Close() // returns when close(2) has, and no Read or Write uses the descriptor any more
		if !sure {
			how = endingOf(localAddrPort(c.TCPConn), c.held.tuple.Dst(), namespace, how)
		}
		c.cleanup.Stop()
		c.held.end(how)
	})
	if !closing {
		return c.TCPConn.Close() // the error for a connection that is closed
	}
	return err
}

// Abort is Close by a reset, for load generators: what is not sent yet is lost, the peer reads an error, no TIME_WAIT is left,
// and the tuple may be used again at once unless CoolDown.Reset is set.
func (c *TCPConn) Abort() error {
	c.SetLinger(0)
	return c.Close()
}

// CloseBy is Close when the peer has closed too: it closes the side that writes, drops what arrives until the peer ends its
// own, and closes. If that takes longer than deadline it aborts; the zero deadline is none. Nothing of the connection is left
// behind then but TIME_WAIT, on the side that closed first as ever. Close returns at once, and leaves a connection whose peer
// does not answer to the kernel, for minutes.
//
// It returns nil if both have ended. The error Is os.ErrDeadlineExceeded if it aborted, and syscall.ECONNRESET if the peer reset
// the connection and no other Read was told so.
func (c *TCPConn) CloseBy(deadline time.Time) error {
	err := c.CloseWrite()
	if errors.Is(err, syscall.ENOTCONN) { // both ends have shut down, or the peer has reset it, which a Read tells once
		err = nil
	}
	if err == nil {
		err = c.SetReadDeadline(deadline)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, struct{ io.Reader }{c.TCPConn}) // without WriteTo, which would be in the error
	}
	switch {
	case err == nil:
		return c.Close()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = &net.OpError{
			Op: "close", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(),
			Err: fmt.Errorf("the peer did not close in time, so the connection was reset: %w", os.ErrDeadlineExceeded),
		}
	}
	c.Abort()
	return err
}

// ending returns how the connection ends if it is closed now, ClosedHere where in doubt. If it is not sure, that is how it
// ended unless the kernel has TIME_WAIT, in the socket's network namespace.
func (c *TCPConn) ending() (how tuple.Ending, sure bool, namespace uint64) {
	s := c.state()
	switch {
	case s.TCP == sockopt.CloseWait, s.TCP == sockopt.LastAck:
		return tuple.ClosedByPeer, true, 0
	case s.OnDevice:
		return tuple.ClosedHere, true, 0 // Lookup does not find those
	case s.TCP == sockopt.Close: // the peer reset it, or both ends have shut down: TIME_WAIT is no longer the socket's affair
		return tuple.ClosedByPeer, false, s.Namespace
	case s.Abort:
		return tuple.Reset, true, 0
	case s.Unread:
		return tuple.Reset, false, s.Namespace
	}
	return tuple.ClosedHere, true, 0
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

// end gives the tuple back, to rest as its ending demands. Whoever resets a connection wants its port at once, as a rule, and
// the kernel grants it: so after a reset it rests only where the pool says so.
func (l lease) end(how tuple.Ending) {
	switch {
	case l.pool == nil:
	case how == tuple.Reset && l.pool.CoolDown.Reset == 0:
		l.pool.Release(l.tuple)
	default:
		l.pool.RetireAs(l.tuple, how)
	}
}

// rest gives the tuple back: free after d.
func (l lease) rest(d time.Duration) {
	if l.pool != nil {
		l.pool.Retire(l.tuple, d)
	}
}

// moveTo exchanges the tuple for the one that the kernel chose, if the pool has that one to give. What it says otherwise is how
// that stands in the pool.
func (l *lease) moveTo(t tuple.Tuple, owner string) (ok bool, state tuple.State) {
	if l.pool == nil {
		return false, tuple.Foreign
	}
	if state := reserve(l.pool, t, owner); state != tuple.Free {
		return false, state
	}
	l.rest(0)
	l.tuple = t
	return true, tuple.InUse
}

// reserve takes t into use if it is free, and returns how it stood.
func reserve(p *tuple.Pool, t tuple.Tuple, owner string) tuple.State {
	for {
		if p.ReserveFor(t, owner) {
			return tuple.Free
		}
		if state := p.State(t); state != tuple.Free { // else it has come free meanwhile
			return state
		}
	}
}
