package dialer

import (
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/ephemera-go/ephemera/tuple"
)

// UDPConn is a UDP socket. If it is connected, it gives its tuple back to the pool when it is closed. It embeds the
// [*net.UDPConn] with all its methods: ReadMsgUDP, SyscallConn, SetReadBuffer and so on work, and it is a
// [net.PacketConn].
//
// A UDPConn comes from a Dialer and must not be copied. It is safe for concurrent use, as a net.UDPConn is. If it is
// never closed, it gives its tuple back when it is garbage-collected.
//
// File returns a second descriptor of the same socket. Close that descriptor before the UDPConn: Close gives the tuple
// back although the socket still has it, and the kernel then lets others use the same tuple.
//
// On Linux, datagrams that arrive before the socket is connected are dropped before the dial returns. A datagram that
// the kernel is delivering at that moment may still come through. ReadFrom and ReadMsgUDP name its sender.
type UDPConn struct {
	*net.UDPConn
	held    lease
	cleanup runtime.Cleanup
	once    sync.Once
}

// untilCollected is the shortest cool-down for the tuple of a socket that nobody closed. The collector closes the
// descriptor in the same cycle, in no known order. Until then the kernel would let another socket use the same tuple.
const untilCollected = 10 * time.Second

func newUDPConn(raw *net.UDPConn, held lease) *UDPConn {
	c := &UDPConn{UDPConn: raw, held: held}
	if held.pool != nil {
		// The cleanup is on raw and not on c, because a caller may keep only what NetConn returns.
		c.cleanup = runtime.AddCleanup(raw, lease.collected, held)
	}
	return c
}

// Tuple returns the tuple of a connected socket as the pool has it. If the pool has no Sources, its source address is
// the unspecified one. The Tuple of a socket from ListenPacket is the zero Tuple.
func (c *UDPConn) Tuple() tuple.Tuple { return c.held.tuple }

// NetConn returns the bare [*net.UDPConn], for code that looks for this type. Close the UDPConn and not the bare
// socket. If only the bare one is closed, the tuple goes back when the UDPConn is closed or garbage-collected.
func (c *UDPConn) NetConn() net.Conn { return c.UDPConn }

// Close closes the socket and then gives its tuple back. The tuple cools down for the CoolDown.Datagram of the pool,
// which is 0 by default.
func (c *UDPConn) Close() error {
	closing := false
	var err error
	c.once.Do(func() {
		closing = true
		err = c.UDPConn.Close() // returns after close(2), when no Read or Write uses the descriptor any more
		c.cleanup.Stop()
		c.held.end(ending{how: tuple.Datagram})
	})
	if !closing {
		return c.UDPConn.Close() // returns the error for a closed socket
	}
	return err
}
