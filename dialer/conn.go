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

// TCPConn is a TCP connection that gives its tuple back to the pool when it is closed. It embeds the [*net.TCPConn]
// with all its methods: io.Copy between two of them splices, and SyscallConn, CloseWrite, SetKeepAlive and so on work.
// io.CopyN does not splice from a TCPConn, because package net looks only for its own types inside an io.LimitedReader.
// Let io.CopyN read from NetConn instead.
//
// A TCPConn comes from a Dialer and must not be copied. It is safe for concurrent use, as a net.TCPConn is. If it is
// never closed, it gives its tuple back when it is garbage-collected.
type TCPConn struct {
	*net.TCPConn
	held    lease
	cleanup runtime.Cleanup
	once    sync.Once
}

func newTCPConn(raw *net.TCPConn, held lease) *TCPConn {
	c := &TCPConn{TCPConn: raw, held: held}
	if held.pool != nil {
		// The cleanup is on raw and not on c, because a caller may keep only what NetConn returns. The collector closes
		// the descriptor in the same cycle, before the tuple has cooled down.
		c.cleanup = runtime.AddCleanup(raw, lease.abandon, held)
	}
	return c
}

// Tuple returns the tuple of the connection as the pool has it. Its destination is the address that was dialled. If the
// pool has no Sources, its source address is the unspecified one.
func (c *TCPConn) Tuple() tuple.Tuple { return c.held.tuple }

// NetConn returns the bare [*net.TCPConn], for code that looks for this type. Close the TCPConn and not the bare
// connection. If only the bare one is closed, the tuple goes back when the TCPConn is closed or garbage-collected.
func (c *TCPConn) NetConn() net.Conn { return c.TCPConn }

// Close closes the connection and then gives its tuple back. How the connection ended decides how long the tuple cools
// down:
//
//   - Active close (tuple.ActiveClose): until the kernel lets a new connection use the tuple. Linux keeps TIME_WAIT for
//     60 seconds. It is one second (net.ipv4.tcp_tw_reuse_delay) if both ends send TCP timestamps and
//     net.ipv4.tcp_tw_reuse is 1, or 2 (the default) on loopback.
//   - The peer closed first or reset the connection (tuple.PassiveClose): about one round trip, in which the kernel
//     waits for the last acknowledgement of the peer. It is 0 if the round trip is shorter than 1 ms.
//   - This side resets the connection (tuple.Reset): 0. Linux also resets a connection that is closed with unread data.
//
// A CoolDown of the pool that is not zero for that ending applies instead. If it is zero, a dial that finds nothing
// free asks the kernel which tuples are free again.
func (c *TCPConn) Close() error {
	closing := false
	var err error
	c.once.Do(func() {
		closing = true
		e, state, unsure := c.ending()
		err = c.TCPConn.Close() // returns after close(2), when no Read or Write uses the descriptor any more
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
		return c.TCPConn.Close() // returns the error for a closed connection
	}
	return err
}

// Abort closes the connection by a reset, for load generators. Data that is not sent yet is lost, the peer reads an
// error, and no TIME_WAIT is left. The tuple is free at once unless CoolDown.Reset is set.
func (c *TCPConn) Abort() error {
	c.SetLinger(0)
	return c.Close()
}

// CloseBy closes the connection and waits until the peer has closed too. It shuts down the sending side, drops what
// arrives until the peer closes, and then closes. If the peer has not closed by the deadline, CloseBy resets the
// connection. The zero deadline means no limit. Afterwards only TIME_WAIT can be left, on the side that closed first.
// Close, in contrast, returns at once, and the kernel keeps a connection for minutes if its peer does not answer.
//
// It returns nil if both sides have closed. The error Is os.ErrDeadlineExceeded if CloseBy reset the connection. It Is
// syscall.ECONNRESET if the peer reset the connection and no other Read has returned that error.
func (c *TCPConn) CloseBy(deadline time.Time) error {
	err := c.CloseWrite()
	if errors.Is(err, syscall.ENOTCONN) { // both ends have shut down, or the peer has reset it, which one Read tells
		err = nil
	}
	if err == nil {
		err = c.SetReadDeadline(deadline)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, struct{ io.Reader }{c.TCPConn}) // hides WriteTo, which the error would name
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

// ending returns how the connection ends if it is closed now. If unsure is true, the kernel may have something left of
// the connection, and that decides.
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
	case s.TCP == sockopt.SynSent, s.TCP == sockopt.SynRecv: // TCP_FASTOPEN_CONNECT without a Write
		e.how = tuple.NeverEstablished
	case s.TCP == sockopt.Close: // the peer reset it, or both ends have shut down and TIME_WAIT has left the socket
		e.how, unsure = tuple.PassiveClose, true
	case s.Abort:
		e.how = tuple.Reset
	case s.Unread:
		e.how, unsure = tuple.Reset, true
	}
	return e, s, unsure
}

// state returns the state of the socket, or the zero State if the kernel does not tell.
func (c *TCPConn) state() (s sockopt.State) {
	raw, err := c.SyscallConn()
	if err != nil {
		return s
	}
	raw.Control(func(fd uintptr) { s, _ = sockopt.Read(int(fd)) })
	return s
}
