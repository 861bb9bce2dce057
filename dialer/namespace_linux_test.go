package dialer_test

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// Threads may be in several network namespaces with different port ranges. In each of them a port uses the lane that is
// right there.
func TestEachNamespaceHasItsOwnLanes(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	if !dialer.HasRangeLane() {
		t.Skip("this kernel has no IP_LOCAL_PORT_RANGE: Linux 6.3")
	}
	here := func(f func()) { f() }
	there := inNamespace(t, "20000 20999")

	dialFrom := func(port int, wantBound bool) {
		l, err := net.Listen("tcp", "127.0.0.1:9000")
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close()
		p := pool(fmt.Sprint(port))
		c, err := (&dialer.Dialer{TCP: p}).Dial("tcp", l.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer c.(*dialer.TCPConn).Abort()
		if got := local(c); int(got.Port()) != port {
			t.Errorf("from %v, not %d", got, port)
		}
		raw, _ := c.(syscall.Conn).SyscallConn()
		raw.Control(func(fd uintptr) {
			if reuse, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR); reuse != 0 != wantBound {
				t.Errorf("%d: in the bind lane: %v, want %v", port, reuse != 0, wantBound)
			}
		})
	}
	for range 3 {
		here(func() { dialFrom(40100, false); dialFrom(20100, true) })
		there(func() { dialFrom(20100, false); dialFrom(40100, true) })
		there(func() { dialFrom(40101, true); dialFrom(20101, false) })
		here(func() { dialFrom(20101, true); dialFrom(40101, false) })
	}
}

// A Tracker refuses sockets of another network namespace and Multipath TCP, and every dial after Close. The server sees
// no packet, and no tuple is taken into use.
func TestTrackerRefusesWhatItCannotFollow(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	needNamespaceCookies(t)
	there := inNamespace(t, "40000 40999")
	p := pool("20000-20009")
	requireRefused := func(dial func(network, address string) (net.Conn, error), address, why string) {
		t.Helper()
		for range 3 {
			c, err := dial("tcp", address)
			if c != nil {
				c.Close()
			}
			require.ErrorContains(t, err, why)
		}
		require.Equal(t, tuple.Stats{}, p.Stats())
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	tracker := newTracker(t)
	nd, err := tracker.NetDialer(&dialer.Dialer{TCP: p})
	require.NoError(t, err)
	there(func() {
		l, err := net.Listen("tcp", "127.0.0.1:9001")
		require.NoError(t, err)
		defer l.Close()
		requireRefused(nd.Dial, "127.0.0.1:9001", "another network namespace")
		requireRefused((&dialer.Dialer{TCP: p, Tracker: tracker}).Dial, "127.0.0.1:9001", "another network namespace")
	})
	multipath := *nd
	multipath.SetMultipathTCP(true)
	c, err := multipath.Dial("tcp", to.addr())
	require.NoError(t, err, "net falls back to TCP")
	require.Equal(t, tuple.Stats{InUse: 1, Destinations: 1}, p.Stats())
	resetPlain(c)
	require.Eventually(t, func() bool { return p.Stats() == tuple.Stats{} }, soon, time.Millisecond)

	require.NoError(t, tracker.Close())
	requireRefused(nd.Dial, to.addr(), "the Tracker is closed")
	requireRefused((&dialer.Dialer{TCP: p, Tracker: tracker}).Dial, to.addr(), "the Tracker is closed")
}

// A connection may be closed on a thread of another network namespace. Its tuple still cools down for TIME_WAIT.
func TestCloseOnAnotherNamespacesThread(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	needNamespaceCookies(t)
	there := inNamespace(t, "40000 40999")
	for _, port := range []string{"40000", "20000"} {
		p := pool(port)
		var c net.Conn
		var l net.Listener
		var err error
		there(func() {
			if l, err = net.Listen("tcp", "127.0.0.1:9000"); err == nil {
				c, err = (&dialer.Dialer{TCP: p}).Dial("tcp", "127.0.0.1:9000")
			}
		})
		require.NoError(t, err)
		a, err := l.Accept()
		require.NoError(t, err)
		require.NoError(t, c.(*dialer.TCPConn).CloseWrite())
		awaitFIN(t, a)
		require.NoError(t, a.Close())
		require.NoError(t, c.(*dialer.TCPConn).CloseBy(time.Now().Add(soon)))
		require.Equal(t, tuple.Stats{Retired: 1, Destinations: 1}, p.Stats())
		require.NoError(t, l.Close())
	}
}

// inNamespace returns a function that runs f on a thread in its own network namespace, with these ephemeral ports.
func inNamespace(t *testing.T, ports string) (run func(func())) {
	t.Helper()
	todo, done := make(chan func()), make(chan error)
	go func() {
		defer close(done)
		done <- enterNamespace(ports)
		for f := range todo {
			func() {
				defer func() { done <- nil }() // though f ends the goroutine
				f()
			}()
		}
	}()
	require.NoError(t, <-done)
	t.Cleanup(func() { close(todo); <-done })
	return func(f func()) { todo <- f; <-done }
}

// needNamespaceCookies skips a test if the kernel does not tell network namespaces apart.
func needNamespaceCookies(t *testing.T) {
	t.Helper()
	if _, err := unix.GetsockoptUint64(rawSocket(t, unix.AF_INET), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil {
		t.Skip("this kernel has no SO_NETNS_COOKIE: Linux 5.14")
	}
}

// enterNamespace moves the thread to its own network namespace. The thread ends with the goroutine.
func enterNamespace(ports string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	if err := netns.Up(); err != nil {
		return err
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte(ports), 0)
}
