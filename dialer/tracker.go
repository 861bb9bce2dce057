package dialer

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// Tracker gives tuples to bare [*net.TCPConn] and [*net.UDPConn], and learns from the kernel when each socket is
// gone. It is for libraries that look for these very types ([Dialer.Tracker]), and for those that take a
// [*net.Dialer] ([Tracker.NetDialer]).
//
// A tuple comes back when its socket is destroyed: closed by all who have its descriptor, and done with what it still
// had to send. It then cools down as after TCPConn.Close. A reset leaves no trace, so it counts as
// tuple.PassiveClose.
//
// Until the kernel has said so the tuple is in use: 0.1 ms after close(2), tens of ms on a busy machine. Programs
// that close and dial all the time need ports to spare, or a Dialer.Wait. If messages of the kernel are lost, because
// sockets are destroyed faster than they are read, the Tracker compares all that it follows with the kernel's tables.
// A connection that the peer has reset, for which the kernel has no tuple any more, may then give its own back before
// it is closed.
//
// It needs Linux, and no privilege. Elsewhere its methods, and dials with it, fail with an error that Is
// [errors.ErrUnsupported]. It follows sockets in the network namespace of the thread that first used it. It refuses
// those in another one, if it can tell (Linux 5.14), and Multipath TCP. It must not be used first inside a
// testing/synctest bubble.
//
// The zero value is ready to use; it must not be copied. It is safe for concurrent use. One Tracker serves any number
// of Dialers and pools. From its first use until Close it has one goroutine and two descriptors for TCP, as many for
// UDP, and hears of every such socket of its network namespace that is destroyed: some 5 µs each (BenchmarkTracker).
type Tracker struct {
	tcp, udp follower
	closed   atomic.Bool
	buffer   int // receive buffer of the watchers; 0 outside tests
}

var (
	errTrackerClosed = fmt.Errorf("the Tracker is closed: %w", net.ErrClosed)
	errElsewhere     = errors.New("the Tracker was first used in another network namespace, and hears of that one alone: have one for each")
	errBubble        = errors.New("a Tracker must not be used first inside a testing/synctest bubble, because its goroutine belongs to the process: call NetDialer, or dial, before the bubble")
	errMultipath     = fmt.Errorf("NetDialer wants Multipath TCP, which a Tracker does not follow: switch it off by SetMultipathTCP(false): %w", errors.ErrUnsupported)
)

// NetDialer returns a net.Dialer that connects TCP from tuples of d's pool, and is d.NetDialer otherwise. The Control
// and ControlContext of that are called as ever. Its other fields may be changed, except LocalAddr, and it may be
// used after d is no more. For other networks than tcp, tcp4 and tcp6 it is as d.NetDialer without a LocalAddr: of
// UDP it keeps no account.
//
// Its ControlContext takes a tuple for each address that is tried, by d's Owner and Wait, and connects: net.Dialer
// finds that begun, and waits for it. If the kernel refuses the tuple, a fresh socket takes the place of the refused
// one behind the same descriptor, and the next tuple is tried, as in DialContext, until none is left. The caller's
// Control is called for each of these sockets, with the same RawConn. If it panics, net.Dialer leaves its socket
// open, but no tuple is in use.
//
// It is an error if d.NetDialer has a LocalAddr with a port, or one that is no [*net.TCPAddr], and if the Tracker
// cannot be used. The Tracker of d does not matter.
func (t *Tracker) NetDialer(d *Dialer) (*net.Dialer, error) {
	nd := d.netDialer()
	c := newCall(d, nd, "tcp")
	if err := c.leaveFrom(nd.LocalAddr); err != nil {
		return nil, err
	}
	c.mayWait = true // net.Dialer tries one address after the other
	if c.local.Port() != 0 {
		return nil, fmt.Errorf("NetDialer.LocalAddr is %v, which asks for one port: Dialer.DialContext does that", nd.LocalAddr)
	}
	if err := t.ready(nd, "tcp"); err != nil {
		return nil, err
	}
	made := *nd
	made.LocalAddr, made.Control = nil, nil // it is bound where the tuple is known
	own := *d
	c.d = &own
	kept := *nd
	c.nd = &kept
	made.ControlContext = connecting{c, t}.control
	return &made, nil
}

// ready reports whether the Tracker can follow what nd dials, and begins to listen to the kernel.
func (t *Tracker) ready(nd *net.Dialer, network string) error {
	if isUDP(network) {
		return t.udp.listen(sockdiag.UDP, t.buffer)
	}
	if nd.MultipathTCP() {
		return errMultipath
	}
	return t.tcp.listen(sockdiag.TCP, t.buffer)
}

// Close ends what the Tracker runs and closes its descriptors. Dials that need the Tracker fail from then on. Close
// it after the last of its sockets: a socket that still lives is no longer followed, and its tuple is given back as
// if it ended now by an active close. (If it is open even then, the kernel refuses a TCP tuple to others.) Tuples of
// sockets that are gone unheard are free. The error is net.ErrClosed if the Tracker was closed before.
func (t *Tracker) Close() error {
	if t.closed.Swap(true) {
		return errTrackerClosed
	}
	t.tcp.close()
	t.udp.close()
	return nil
}

// adopt makes the Tracker give back what is held when conn, a bare connection from there on a device, is closed. On
// an error the caller still has both.
func (t *Tracker) adopt(conn net.Conn, held lease, device int) error {
	if held.pool == nil {
		return nil
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	f := &t.tcp
	if _, udp := conn.(*net.UDPConn); udp {
		f = &t.udp
	}
	real := tuple.From(localAddrPort(conn), remoteAddrPort(conn))
	control := raw.Control(func(fd uintptr) {
		if err = f.takes(int(fd)); err == nil {
			err = f.follow(int(fd), held, real, device)
		}
	})
	return cmp.Or(control, err)
}
