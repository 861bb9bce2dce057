package dialer_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// awaitFIN reads until the peer has closed.
func awaitFIN(t *testing.T, c net.Conn) {
	_, err := io.Copy(io.Discard, c)
	require.NoError(t, err)
}

// awaitReset reads until the connection is reset.
func awaitReset(t *testing.T, c net.Conn) {
	_, err := io.Copy(io.Discard, c)
	require.Error(t, err)
}

// A tuple is retired for 60 seconds if the kernel has it in TIME_WAIT, on this side, and free as soon as the connection
// is closed if not.
func TestWhoClosedFirstDecidesOnTimeWait(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	cases := []struct {
		name    string
		close   func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn)
		retired bool
	}{
		{"we", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.Close())
			awaitFIN(t, a)
			require.NoError(t, a.Close())
		}, true},
		{"peer", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, a.Close())
			awaitFIN(t, c)
			require.NoError(t, c.Close())
		}, false},
		{"we by CloseWrite", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.CloseWrite())
			awaitFIN(t, a)
			require.NoError(t, a.Close())
			awaitFIN(t, c)
			require.NoError(t, c.Close())
		}, true},
		{"we by CloseWrite, before the peer closes", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.CloseWrite())
			awaitFIN(t, a)
			require.NoError(t, c.Close())
			require.NoError(t, a.Close())
		}, true},
		{"peer, then we by CloseWrite", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, a.CloseWrite())
			awaitFIN(t, c)
			require.NoError(t, c.CloseWrite())
			awaitFIN(t, a)
			require.NoError(t, c.Close())
			require.NoError(t, a.Close())
		}, false},
		{"peer by RST", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, a.SetLinger(0))
			require.NoError(t, a.Close())
			awaitReset(t, c)
			require.NoError(t, c.Close())
		}, false},
		{"we by RST", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.SetLinger(0))
			require.NoError(t, c.Close())
			awaitReset(t, a)
		}, false},
		{"we by RST, after CloseWrite", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.CloseWrite())
			awaitFIN(t, a)
			require.NoError(t, c.SetLinger(0))
			require.NoError(t, c.Close())
			require.NoError(t, a.Close())
		}, false},
		{"we by RST, when TIME_WAIT has begun", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.CloseWrite())
			awaitFIN(t, a)
			require.NoError(t, a.Close())
			awaitFIN(t, c)
			require.NoError(t, c.SetLinger(0))
			require.NoError(t, c.Close())
		}, true},
		{"we by CloseWrite of the bare connection", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.NetConn().(*net.TCPConn).CloseWrite())
			awaitFIN(t, a)
			require.NoError(t, a.Close())
			awaitFIN(t, c)
			require.NoError(t, c.Close())
		}, true},
		{"we, the bare connection first", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.NetConn().Close())
			awaitFIN(t, a)
			require.NoError(t, a.Close())
			require.ErrorIs(t, c.Close(), net.ErrClosed)
		}, true},
	}
	peers := []*peer{listen(t, "tcp", "127.0.0.1:9000"), listen(t, "tcp", "[::1]:9000")}
	port := uint16(0)
	for _, first := range []uint16{40000, 20000} {
		for _, to := range peers {
			for _, from := range []string{"", "from a source"} {
				for _, closing := range cases {
					port++
					t.Run(fmt.Sprintf("%s/%d/to %v/%s", closing.name, first, to.Addr(), from), func(t *testing.T) {
						p := pool(fmt.Sprint(first + port))
						if ip := to.addrPort().Addr(); from != "" {
							p.Sources = []netip.Prefix{netip.PrefixFrom(ip, ip.BitLen())}
						}
						c := dial(t, &dialer.Dialer{TCP: p}, to.addr())
						a := to.accept(t, c)
						closing.close(t, c, a)
						if !closing.retired {
							require.Equal(t, tuple.Stats{}, p.Stats())
							require.NotEqual(t, sockdiag.TimeWait, kernelState(t, c.Tuple(), to))
							return
						}
						require.Equal(t, tuple.Stats{Retired: 1, Destinations: 1}, p.Stats())
						awaitTimeWait(t, c.Tuple(), to)
						_, err := p.TryAcquire(to.addrPort())
						var exhausted *tuple.ExhaustedError
						require.ErrorAs(t, err, &exhausted)
						require.Greater(t, exhausted.Next, 30*time.Second)
						require.LessOrEqual(t, exhausted.Next, 60*time.Second)
					})
				}
			}
		}
	}
}

// However many close a connection, its tuple is given back once: whoever has it next keeps it.
func TestConcurrentCloseGivesTheTupleBackOnce(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	p := pool("40000")
	d := &dialer.Dialer{TCP: p}
	for range 100 {
		c := dial(t, d, to.addr())
		require.NoError(t, c.SetLinger(0))
		var all sync.WaitGroup
		errs := make([]error, 4)
		start := make(chan struct{})
		for i := range errs {
			all.Go(func() {
				<-start
				errs[i] = c.Close()
				if errs[i] == nil {
					_, errs[i] = p.TryAcquire(to.addrPort()) // the next to have it, who does not let go
				}
			})
		}
		close(start)
		all.Wait()
		succeeded := 0
		for _, err := range errs {
			if err == nil {
				succeeded++
				continue
			}
			require.ErrorIs(t, err, net.ErrClosed)
		}
		require.Equal(t, 1, succeeded)
		require.Equal(t, 1, p.Stats().InUse)
		require.ErrorIs(t, c.Close(), net.ErrClosed)
		require.Equal(t, 1, p.Stats().InUse)
		require.True(t, p.Release(c.Tuple()))
	}
}

// A connection that nobody holds any more gives its tuple back as it gives back its descriptor, whichever of the two the
// caller kept.
func TestCollectedConnectionGivesItsTupleBack(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	p := pool("40000-40999")
	d := &dialer.Dialer{TCP: p}
	open := func() net.Conn {
		c, err := d.Dial("tcp", to.addr())
		require.NoError(t, err)
		return c
	}
	const n = 20
	sockets := openSockets(t)
	var bare []net.Conn
	func() {
		for range n {
			open()
			bare = append(bare, open().(*dialer.TCPConn).NetConn())
		}
	}()
	collect := func() bool { runtime.GC(); return p.Stats().InUse == n }
	require.Eventually(t, collect, soon, time.Millisecond, "those that nobody holds")
	for range 5 {
		runtime.GC()
	}
	require.Equal(t, n, p.Stats().InUse, "the bare connections are held, and their tuples with them")
	for _, c := range bare {
		_, err := c.Write([]byte("x"))
		require.NoError(t, err)
	}
	bare = nil
	require.Eventually(t, func() bool { runtime.GC(); return p.Stats().InUse == 0 }, soon, time.Millisecond)
	require.Equal(t, 2*n, p.Stats().Retired)
	for range 2 * n {
		(<-to.conns).Close()
	}
	require.Eventually(t, func() bool { runtime.GC(); return openSockets(t) <= sockets }, soon, time.Millisecond)
}
