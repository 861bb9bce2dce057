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

// TCPConn is a TCP connection whose tuple goes back to its pool when it is closed. It embeds the [*net.TCPConn], with
// all its methods: io.Copy between two of them splices, and SyscallConn, CloseWrite, SetKeepAlive and so on work.
// io.CopyN, whose io.LimitedReader package net looks into for its own types alone, splices from what NetConn returns.
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
		// On raw and not on c, because a caller may keep only what NetConn returns. The collector closes the
		// descriptor in the same cycle, and the tuple cools down for longer than that takes.
		c.cleanup = runtime.AddCleanup(raw, lease.abandon, held)
	}
	return c
}

// Tuple returns the tuple of the connection, as its pool has it: without Sources its source is the unspecified
// address, and the destination is the one that was dialled.
func (c *TCPConn) Tuple() tuple.Tuple { return c.held.tuple }

// NetConn returns the bare [*net.TCPConn], for code that looks for that very type. Close the TCPConn rather than it: if
// only the bare one is closed, the tuple comes back when the TCPConn is closed or garbage-collected.
func (c *TCPConn) NetConn() net.Conn { return c.TCPConn }

// Close closes the connection and then gives its tuple back. How long the tuple cools down depends on how the
// connection ended:
//
//   - This side closed first (tuple.ActiveClose): until the kernel lets a new connection use the tuple. Linux keeps
//     TIME_WAIT for 60 seconds. With net.ipv4.tcp_tw_reuse=1, or 2 (the default) on loopback, and TCP timestamps,
//     that is one second (net.ipv4.tcp_tw_reuse_delay).
//   - The peer closed first or reset the connection (tuple.PassiveClose): a round trip if that is noticeable, in
//     which the kernel waits for the peer's last word; else not at all.
//   - This side resets the connection (tuple.Reset), as Linux does of its own accord where something is left unread:
//     not at all.
//
// A CoolDown of the pool that is not zero wins. Without one, a dial that finds nothing free asks the kernel which
// tuples are free after all.
func (c *TCPConn) Close() error {
	closing := false
	var err error
	c.once.Do(func() {
		closing = true
		e, state, unsure := c.ending()
		err = c.TCPConn.Close() // returns when close(2) has, and no Read or Write uses the descriptor any more
		c.cleanup.Stop()
		switch {
		case c.held.pool == nil:
		case unsure:
			c.held.endAsLeft(e, localAddrPort(c.TCPConn), remoteAddrPort(c.TCPConn), state)
		default:
			c.held.end(e)
		}
	})
	if !closing {
		return c.TCPConn.Close() // the error for a connection that is closed
	}
	return err
}

// Abort is Close by a reset, for load generators: what is not sent yet is lost, the peer reads an error, no TIME_WAIT
// is left, and the tuple may be used again at once unless CoolDown.Reset is set.
func (c *TCPConn) Abort() error {
	c.SetLinger(0)
	return c.Close()
}

// CloseBy is Close when the peer has closed too: it closes the side that writes, drops what arrives until the peer
// ends its own, and closes. If that takes longer than deadline it aborts; the zero deadline is none. Nothing of the
// connection is left behind then but TIME_WAIT, on the side that closed first as ever. Close returns at once, and
// leaves a connection whose peer does not answer to the kernel, for minutes.
//
// It returns nil if both have ended. The error Is os.ErrDeadlineExceeded if it aborted, and syscall.ECONNRESET if the
// peer reset the connection and no other Read was told so.
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

// ending returns how the connection ends if it is closed now. If unsure, that is how it ended unless the kernel has
// something left of it.
func (c *TCPConn) ending() (e ending, s sockopt.State, unsure bool) {
	s = c.state()
	e = ending{
		how: tuple.ActiveClose, local: localAddrPort(c.TCPConn).Addr(), remote: remoteAddrPort(c.TCPConn).Addr(),
		timestamps: s.Timestamps, rtt: s.RTT,
	}
	switch {
	case s.TCP == 0: // the bare connection is closed already
		unsure = true
	case s.TCP == sockopt.CloseWait, s.TCP == sockopt.LastAck:
		e.how = tuple.PassiveClose
	case s.TCP == sockopt.SynSent, s.TCP == sockopt.SynRecv: // TCP_FASTOPEN_CONNECT, and nothing was written
		e.how = tuple.NeverEstablished
	case s.TCP == sockopt.Close: // the peer reset it, or both ends have shut down: TIME_WAIT is no longer the socket's affair
		e.how, unsure = tuple.PassiveClose, true
	case s.Abort:
		e.how = tuple.Reset
	case s.Unread:
		e.how, unsure = tuple.Reset, true
	}
	return e, s, unsure
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
