package dialer

import (
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/ephemera-go/ephemera/tuple"
)

// UDPConn is a UDP socket whose tuple, if it is connected, goes back to its pool when it is closed. It embeds the
// [*net.UDPConn], with all its methods: ReadMsgUDP, SyscallConn, SetReadBuffer and so on work, and what looks for a
// [net.PacketConn] finds one.
//
// A UDPConn comes from a Dialer and must not be copied. It is safe for concurrent use as a net.UDPConn is. One that is
// never closed gives its tuple back when it is garbage-collected, as its file descriptor is.
//
// File makes a second descriptor of the same socket. Close does not end that, and the kernel lets others have the
// tuple then: close it first.
//
// On Linux, what others sent to the port before the socket was connected is dropped before the dial returns. A datagram
// that the kernel is just delivering at that instant may still come through; ReadFrom and ReadMsgUDP name its sender.
type UDPConn struct {
	*net.UDPConn
	held    lease
	cleanup runtime.Cleanup
	once    sync.Once
}

// untilCollected is how long the tuple of a socket that nobody closed cools down at least. The collector closes the
// descriptor in the same cycle, but not in a known order; and until then the kernel would let another socket have the
// same tuple.
const untilCollected = 10 * time.Second

func newUDPConn(raw *net.UDPConn, held lease) *UDPConn {
	c := &UDPConn{UDPConn: raw, held: held}
	if held.pool != nil {
		// On raw and not on c, because a caller may keep only what NetConn returns.
		c.cleanup = runtime.AddCleanup(raw, lease.collected, held)
	}
	return c
}

// Tuple returns the tuple of a connected socket, as its pool has it: without Sources its source is the unspecified
// address. That of a socket from ListenPacket is the zero Tuple.
func (c *UDPConn) Tuple() tuple.Tuple { return c.held.tuple }

// NetConn returns the bare [*net.UDPConn], for code that looks for that very type. Close the UDPConn rather than it: if
// only the bare one is closed, the tuple comes back when the UDPConn is closed or garbage-collected.
func (c *UDPConn) NetConn() net.Conn { return c.UDPConn }

// Close closes the socket and then gives its tuple back. The tuple rests as long as the pool's CoolDown says of
// tuple.Datagram, which is not at all by default.
func (c *UDPConn) Close() error {
	closing := false
	var err error
	c.once.Do(func() {
		closing = true
		err = c.UDPConn.Close() // returns when close(2) has, and no Read or Write uses the descriptor any more
		c.cleanup.Stop()
		c.held.end(ending{how: tuple.Datagram})
	})
	if !closing {
		return c.UDPConn.Close() // the error for a socket that is closed
	}
	return err
}
