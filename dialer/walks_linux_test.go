package dialer_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// Where UDP sockets on a port are closed while the kernel hands out the list of them, it leaves out others. Adopt and Update find
// those all the same, and Audit does not miss them: what lives is reserved until it is gone.
func TestSocketsThatAWalkMisses(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	const n = 3000
	to := func(i int) string { return fmt.Sprintf("127.1.%d.%d:9", i/250, 1+i%250) }
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for range rounds {
		d := &dialer.Dialer{UDP: pool("20000")}
		var conns [n]net.Conn
		for i := range conns {
			c, err := d.Dial("udp", to(i))
			require.NoError(t, err)
			conns[i] = c
		}
		closed := make(chan struct{})
		go func() { // those in between
			defer close(closed)
			for i := n - 1; i >= 0; i-- {
				if i%2 == 1 {
					conns[i].Close()
				}
			}
		}()
		p := pool("20000", "127.0.0.1/32")
		adopted, err := dialer.Adopt("udp", p)
		require.NoError(t, err)
		for range 3 {
			require.NoError(t, adopted.Update())
			requireAgreement(t, "udp", d.UDP)
		}
		<-closed
		require.NoError(t, adopted.Update())
		require.Equal(t, n/2, adopted.Reserved())
		for i := 0; i < n; i += 2 {
			require.True(t, p.Contains(tuple.From(localUDP(conns[i]), netip.MustParseAddrPort(to(i)))))
			conns[i].Close()
		}
		require.NoError(t, adopted.Update())
		require.Equal(t, tuple.Stats{}, p.Stats())
	}
}

// inNamespace returns what runs a function on a thread that is in a network namespace of its own, with these ephemeral ports.
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

// needNamespaceCookies skips a test where the kernel does not tell network namespaces apart.
func needNamespaceCookies(t *testing.T) {
	t.Helper()
	if _, err := unix.GetsockoptUint64(rawSocket(t, unix.AF_INET), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil {
		t.Skip("this kernel has no SO_NETNS_COOKIE: Linux 5.14")
	}
}

// A Tracker refuses what it would not hear of: sockets of another network namespace, and Multipath TCP; and all once it is
// closed. The server sees nothing of it, and no tuple is taken.
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
		requireRefused((&dialer.Dialer{TCP: p, Raw: tracker}).Dial, "127.0.0.1:9001", "another network namespace")
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
	requireRefused((&dialer.Dialer{TCP: p, Raw: tracker}).Dial, to.addr(), "the Tracker is closed")
}

// A connection may be closed on a thread of another network namespace than its own: TIME_WAIT rests nevertheless.
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

// A link-local address of IPv4 is one like any other: no device, and no doubt about TIME_WAIT.
func TestIPv4LinkLocalDestination(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	netns.AddAddr(t, netip.MustParsePrefix("169.254.169.254/32"))
	to := listen(t, "tcp", "169.254.169.254:9000")
	p := pool("20000-20009")
	tracker := newTracker(t)
	for _, raw := range []*dialer.Tracker{nil, tracker} {
		c, err := (&dialer.Dialer{TCP: p, Raw: raw}).Dial("tcp", to.addr())
		require.NoError(t, err)
		a := to.accept(t, c)
		require.NoError(t, a.SetLinger(0))
		require.NoError(t, a.Close())
		awaitReset(t, c)
		require.NoError(t, c.Close())
		require.Eventually(t, func() bool { return p.Stats() == tuple.Stats{} }, soon, time.Millisecond)
	}
}

// A pool that is closed is closed to those who name the port, too.
func TestPortAskedForOfAClosedPool(t *testing.T) {
	to := listen(t, "tcp", "127.0.0.1:0")
	p := pool("20000-20009", "127.0.0.1/32")
	require.NoError(t, p.Close())
	d := &dialer.Dialer{TCP: p, UDP: p}
	for _, port := range []uint16{20000, 0} {
		_, err := d.DialTCP(t.Context(), "tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), to.addrPort())
		require.ErrorIs(t, err, tuple.ErrClosed)
		_, err = d.DialUDP(t.Context(), "udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), to.addrPort())
		require.ErrorIs(t, err, tuple.ErrClosed)
	}
}
