package dialer

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// Tracker gives tuples to connections that do not know of it, plain [*net.TCPConn], and learns from the kernel when each is
// gone: for libraries that take a [*net.Dialer] by type ([Tracker.NetDialer]), and for those that look for the very type
// *net.TCPConn ([Dialer.Raw]).
//
// A tuple comes back when its socket is destroyed: closed by all who have its descriptor, and done with what it still had to
// send. It then rests as the pool's CoolDown says: of tuple.ClosedHere if the kernel has TIME_WAIT there, and else of
// tuple.ClosedByPeer, for a reset leaves no trace. Until the kernel has said so the tuple is in use: 0.1 ms after close(2), tens
// of ms on a busy machine. So whoever closes and dials all the time needs ports to spare, or a Dialer.Wait. If messages of the
// kernel are lost, because sockets are destroyed faster than they are read, it compares all that it follows with the kernel's
// tables; then a connection that the peer has reset, for which the kernel has no tuple any more, gives its own back before it is
// closed.
//
// It needs Linux, and no privilege; elsewhere its methods, and dials with it, fail with an error that Is
// [errors.ErrUnsupported]. It follows connections in the network namespace of the thread that first used it. Those in another
// one it refuses, if it can tell (Linux 5.14), and Multipath TCP.
//
// The zero value is ready to use; it must not be copied. It is safe for concurrent use. One Tracker serves any number of
// Dialers and pools. From its first use until Close it has one goroutine and two descriptors, and hears of every TCP socket of
// its network namespace that is destroyed: some 5 µs each (BenchmarkTracker).
type Tracker struct {
	mu      sync.Mutex
	watcher *sockdiag.Watcher   // nil before the first use
	network uint64              // its namespace
	done    chan struct{}       // closed when the goroutine has ended
	held    map[uint64]followed // by the cookie of the socket
	most    int                 // what held had room for
	round   uint64              // how often it was compared with the kernel's tables
	closed  bool

	buffer int // receive buffer of the watcher; 0 outside tests
}

var (
	errTrackerClosed = fmt.Errorf("the Tracker is closed: %w", net.ErrClosed)
	errElsewhere     = errors.New("the Tracker was first used in another network namespace, and hears of that one alone: have one for each")
	errMultipath     = fmt.Errorf("NetDialer wants Multipath TCP, which a Tracker does not follow: switch it off by SetMultipathTCP(false): %w", errors.ErrUnsupported)
)

// NetDialer returns a net.Dialer that connects from tuples of d's pool, and is d.NetDialer otherwise, whose own Control and
// ControlContext are called as ever. It may be changed but for its LocalAddr, Control and ControlContext, and be used after
// d is no more. For networks other than tcp, tcp4 and tcp6 it is as d.NetDialer, but without a LocalAddr.
//
// Its ControlContext takes a tuple for each address that is tried, by d's Owner and Wait, and connects: net.Dialer finds
// that begun, and waits for it. Where the kernel says that a tuple is taken, it is parked, a fresh socket takes the place of
// the refused one behind the same descriptor, and the next tuple is tried, as in DialContext, until none is left. The
// caller's Control is called for each of these sockets, with the same RawConn; if it panics, net.Dialer leaves its socket
// open, but no tuple is in use.
//
// It is an error if d.NetDialer has a LocalAddr with a port, or one that is no [*net.TCPAddr], and if the Tracker cannot be
// used. The Raw of d does not matter.
func (t *Tracker) NetDialer(d *Dialer) (*net.Dialer, error) {
	nd := d.netDialer()
	c, err := newCall(d, nd, "tcp")
	if err == nil {
		err = c.leaveFrom(nd.LocalAddr)
	}
	if err != nil {
		return nil, err
	}
	if c.local.Port() != 0 {
		return nil, fmt.Errorf("NetDialer.LocalAddr is %v, which asks for one port: Dialer.DialContext does that", nd.LocalAddr)
	}
	if err := t.ready(nd); err != nil {
		return nil, err
	}
	made := *nd
	made.LocalAddr, made.Control = nil, nil // it is bound where the tuple is known
	own := *d
	c.Dialer = &own
	kept := *nd
	c.nd = &kept
	made.ControlContext = connecting{c, t}.control
	return &made, nil
}

// ready opens what the Tracker listens to, if that is not so yet, and reports whether it can follow what nd dials.
func (t *Tracker) ready(nd *net.Dialer) error {
	if nd.MultipathTCP() {
		return errMultipath
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return errTrackerClosed
	case t.watcher != nil:
		return nil
	}
	w, err := sockdiag.Watch(t.buffer)
	if err != nil {
		return fmt.Errorf("a Tracker cannot listen to the kernel: %w", err)
	}
	t.watcher, t.network, t.done = w, w.Namespace(), make(chan struct{})
	go t.run(w)
	return nil
}

// Close ends the goroutine and closes the descriptors; dials that need the Tracker fail from then on. Close it after the
// last of its connections: what still lives then is followed no longer, and its tuple is given back after a rest of 60
// seconds. (If it is open even then, the kernel refuses the tuple to others as it does those of other processes.) Tuples of
// which the kernel has nothing any more, its last messages unread, are free. The error is net.ErrClosed if it was closed
// before.
func (t *Tracker) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return errTrackerClosed
	}
	t.closed = true
	w, done := t.watcher, t.done
	t.mu.Unlock()
	if w != nil {
		w.Stop()
		<-done
	}
	return nil
}

// adopt takes over the tuple of tc, and returns the bare connection. If it cannot, tc is closed.
func (t *Tracker) adopt(tc *TCPConn, c *call) (net.Conn, error) {
	if tc.held.pool == nil {
		return tc.TCPConn, nil
	}
	local, remote := localAddrPort(tc.TCPConn), tc.held.tuple.Dst()
	raw, err := tc.SyscallConn()
	if err == nil {
		control := raw.Control(func(fd uintptr) {
			if err = t.takes(int(fd)); err == nil {
				err = t.follow(int(fd), tc.held, tuple.From(local, remote))
			}
		})
		err = errors.Join(err, control)
	}
	if err != nil {
		tc.Abort()
		return nil, c.opError(local, remote, err)
	}
	tc.cleanup.Stop()
	return tc.TCPConn, nil
}
