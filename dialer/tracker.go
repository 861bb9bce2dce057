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

// Tracker keeps the account for bare [*net.TCPConn] and [*net.UDPConn]: the kernel tells it when a socket is gone. It
// serves libraries that look for these types ([Dialer.Tracker]), and libraries that take a [*net.Dialer]
// ([Tracker.NetDialer]).
//
// A tuple goes back when its socket is destroyed: every holder of a descriptor has closed it, and nothing is left to
// send. The tuple then cools down as after TCPConn.Close. A reset leaves no trace, so it counts as tuple.PassiveClose.
//
// Until the message of the kernel arrives, the tuple is in use: 0.1 ms after close(2), tens of ms on a busy machine.
// Programs that close and dial all the time need spare ports or a Dialer.Wait.
//
// The kernel drops messages if sockets are destroyed faster than the Tracker reads them. The Tracker then compares all
// its sockets with the kernel's tables. It may then give back a tuple too early: that of a connection which the peer
// has reset and which is not closed yet. The kernel has no tuple for it any more.
//
// A Tracker needs Linux and no privileges. On other systems its methods, and dials with it, fail with an error that Is
// [errors.ErrUnsupported]. It follows sockets in the network namespace of the thread that first used it. It refuses
// sockets of other namespaces if it can tell them apart (Linux 5.14), and Multipath TCP. It must not be used first
// inside a testing/synctest bubble.
//
// The zero value is ready to use. It must not be copied. It is safe for concurrent use. One Tracker serves any number
// of Dialers and pools. From its first use until Close it has one goroutine and two descriptors for TCP, and the same
// for UDP. It hears of every socket of its network namespace that is destroyed, at about 5 µs each (BenchmarkTracker).
type Tracker struct {
	tcp, udp follower
	closed   atomic.Bool
	buffer   int // receive buffer of the watchers in bytes; 0 except in tests
}

var (
	errTrackerClosed = fmt.Errorf("the Tracker is closed: %w", net.ErrClosed)
	errElsewhere     = errors.New("the Tracker follows another network namespace: use one Tracker for each namespace")
	errBubble        = errors.New("a Tracker must not be used first inside a testing/synctest bubble:" +
		" call NetDialer, or dial, before the bubble")
	errMultipath = fmt.Errorf("a Tracker does not follow Multipath TCP: call SetMultipathTCP(false) of NetDialer: %w",
		errors.ErrUnsupported)
)

// NetDialer returns a net.Dialer that connects TCP from tuples of d's pool. In everything else it is like d.NetDialer,
// and calls its Control and ControlContext. Its fields may be changed, except LocalAddr, Control and ControlContext. It
// stays usable after d is gone. Networks other than tcp, tcp4 and tcp6 are dialled as with d.NetDialer without a
// LocalAddr, and are not recorded in a pool.
//
// Its ControlContext acquires a tuple for each address that is tried, with the Owner and Wait of d, and begins to
// connect. net.Dialer then waits for that connect. If the kernel refuses the tuple, ControlContext puts a fresh socket
// behind the same descriptor and tries the next tuple, until none is left. It calls the caller's Control for each of
// these sockets, with the same RawConn. If Control panics, net.Dialer leaves its socket open, but no tuple is in use.
//
// It is an error if d.NetDialer has a LocalAddr that has a port or is not a [*net.TCPAddr], or if the Tracker cannot be
// used. The Tracker field of d is ignored.
func (t *Tracker) NetDialer(d *Dialer) (*net.Dialer, error) {
	nd := d.netDialer()
	c := newCall(d, nd, "tcp")
	if err := c.leaveFrom(nd.LocalAddr); err != nil {
		return nil, err
	}
	c.mayWait = true // net.Dialer tries the addresses one after the other
	if c.local.Port() != 0 {
		return nil, fmt.Errorf("NetDialer.LocalAddr has a port: use port 0, or Dialer.DialContext (%v)", nd.LocalAddr)
	}
	if err := t.ready(nd, "tcp"); err != nil {
		return nil, err
	}
	made := *nd
	made.LocalAddr, made.Control = nil, nil // connecting binds the socket once it has a tuple
	own := *d
	c.d = &own
	kept := *nd
	c.nd = &kept
	made.ControlContext = connecting{c, t}.control
	return &made, nil
}

// ready returns an error if the Tracker cannot follow what nd dials. It begins to listen to the kernel.
func (t *Tracker) ready(nd *net.Dialer, network string) error {
	if isUDP(network) {
		return t.udp.listen(sockdiag.UDP, t.buffer)
	}
	if nd.MultipathTCP() {
		return errMultipath
	}
	return t.tcp.listen(sockdiag.TCP, t.buffer)
}

// Close stops the Tracker and closes its descriptors. Later dials that need the Tracker fail. Close it after the last
// of its sockets. A socket that is still open is no longer followed, and its tuple goes back as if an active close
// ended it now. (The kernel then still refuses a TCP tuple to others.) Tuples of sockets that are gone, but whose
// message was not read yet, go back too. The error is net.ErrClosed if the Tracker was already closed.
func (t *Tracker) Close() error {
	if t.closed.Swap(true) {
		return errTrackerClosed
	}
	t.tcp.close()
	t.udp.close()
	return nil
}

// adopt makes the Tracker give the tuple back when conn, a bare connection, is closed. device is the index of the
// device that conn is bound to, 0 if none. If adopt fails, the caller still has both conn and tuple.
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
