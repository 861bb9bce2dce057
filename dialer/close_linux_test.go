package dialer_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

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

// A tuple cools down for the time that the pool's CoolDown sets for the ending of its connection. The ending is
// ActiveClose exactly if the kernel has TIME_WAIT on this side.
func TestTupleRestsAsItsConnectionEnded(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999", "net.ipv4.tcp_tw_reuse=0") {
		return
	}
	cases := []struct {
		name  string
		close func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn)
		how   tuple.Ending
	}{
		{"we", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.Close())
			awaitFIN(t, a)
			require.NoError(t, a.Close())
		}, tuple.ActiveClose},
		{"peer", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, a.Close())
			awaitFIN(t, c)
			require.NoError(t, c.Close())
		}, tuple.PassiveClose},
		{"we by CloseWrite", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.CloseWrite())
			awaitFIN(t, a)
			require.NoError(t, a.Close())
			awaitFIN(t, c)
			require.NoError(t, c.Close())
		}, tuple.ActiveClose},
		{"we by CloseWrite, before the peer closes", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.CloseWrite())
			awaitFIN(t, a)
			require.NoError(t, c.Close())
			require.NoError(t, a.Close())
		}, tuple.ActiveClose},
		{"peer, then we by CloseWrite", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, a.CloseWrite())
			awaitFIN(t, c)
			require.NoError(t, c.CloseWrite())
			awaitFIN(t, a)
			require.NoError(t, c.Close())
			require.NoError(t, a.Close())
		}, tuple.PassiveClose},
		{"peer by RST", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, a.SetLinger(0))
			require.NoError(t, a.Close())
			awaitReset(t, c)
			require.NoError(t, c.Close())
		}, tuple.PassiveClose},
		{"we by RST", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.SetLinger(0))
			require.NoError(t, c.Close())
			awaitReset(t, a)
		}, tuple.Reset},
		{"we by RST, after CloseWrite", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.CloseWrite())
			awaitFIN(t, a)
			require.NoError(t, c.SetLinger(0))
			require.NoError(t, c.Close())
			require.NoError(t, a.Close())
		}, tuple.Reset},
		{"we by RST, when TIME_WAIT has begun", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.CloseWrite())
			awaitFIN(t, a)
			require.NoError(t, a.Close())
			awaitFIN(t, c)
			require.NoError(t, c.SetLinger(0))
			require.NoError(t, c.Close())
		}, tuple.ActiveClose},
		{"we by Abort", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.Abort())
			awaitReset(t, a)
		}, tuple.Reset},
		{"we, with something unread", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			writeAndAwait(t, a, c)
			require.NoError(t, c.Close())
			awaitReset(t, a)
		}, tuple.Reset},
		{"peer, with something unread", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			writeAndAwait(t, a, c)
			require.NoError(t, a.Close())
			b := make([]byte, 1)
			_, err := c.Read(b)
			require.NoError(t, err)
			awaitFIN(t, c)
			require.NoError(t, c.Close())
		}, tuple.PassiveClose},
		{"we by CloseBy", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			go func() {
				io.Copy(a, a) // until we close
				a.Close()
			}()
			_, err := c.Write([]byte("not read again"))
			require.NoError(t, err)
			require.NoError(t, c.CloseBy(time.Now().Add(soon)))
		}, tuple.ActiveClose},
		{"we by CloseBy, of a peer that does not", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			err := c.CloseBy(time.Now())
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.ErrorContains(t, err, "the peer did not close in time, so the connection was reset")
			_, err = io.Copy(io.Discard, a)
			require.NoError(t, err, "our FIN came before the reset")
			require.NoError(t, a.Close())
		}, tuple.Reset},
		{"we by CloseBy, when both have shut down", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.CloseWrite())
			awaitFIN(t, a)
			require.NoError(t, a.Close())
			awaitFIN(t, c)
			awaitTimeWaitOf(t, c)
			require.NoError(t, c.CloseBy(time.Now().Add(soon)))
		}, tuple.ActiveClose},
		{"peer, then we by CloseWrite and CloseBy", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, a.CloseWrite())
			awaitFIN(t, c)
			require.NoError(t, c.CloseWrite())
			awaitFIN(t, a)
			require.NoError(t, a.Close())
			require.NoError(t, c.CloseBy(time.Now().Add(soon)))
		}, tuple.PassiveClose},
		{"peer by RST, then we by CloseBy", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, a.SetLinger(0))
			require.NoError(t, a.Close())
			require.ErrorIs(t, c.CloseBy(time.Now().Add(soon)), syscall.ECONNRESET)
		}, tuple.PassiveClose},
		{"we by CloseBy, after the peer", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, a.CloseWrite())
			awaitFIN(t, c)
			require.NoError(t, c.CloseBy(time.Now().Add(soon)))
			require.NoError(t, a.Close())
		}, tuple.PassiveClose},
		{"we by CloseWrite of the bare connection", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.NetConn().(*net.TCPConn).CloseWrite())
			awaitFIN(t, a)
			require.NoError(t, a.Close())
			awaitFIN(t, c)
			require.NoError(t, c.Close())
		}, tuple.ActiveClose},
		{"we, the bare connection first", func(t *testing.T, c *dialer.TCPConn, a *net.TCPConn) {
			require.NoError(t, c.NetConn().Close())
			awaitFIN(t, a)
			require.NoError(t, a.Close())
			require.ErrorIs(t, c.Close(), net.ErrClosed)
		}, tuple.ActiveClose},
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
						p.CoolDown = tuple.CoolDown{PassiveClose: 20 * time.Second, Reset: 16 * time.Second}
						rest := map[tuple.Ending]time.Duration{
							tuple.ActiveClose: 60 * time.Second, tuple.PassiveClose: 20 * time.Second,
							tuple.Reset: 16 * time.Second,
						}
						var rested time.Duration
						p.Trace = &tuple.Trace{Retired: func(_ tuple.Tuple, d time.Duration) { rested = d }}
						if ip := to.addrPort().Addr(); from != "" {
							p.Sources = []netip.Prefix{netip.PrefixFrom(ip, ip.BitLen())}
						}
						c := dial(t, &dialer.Dialer{TCP: p}, to.addr())
						a := to.accept(t, c)
						closing.close(t, c, a)
						require.Equal(t, tuple.Stats{Retired: 1, Destinations: 1}, p.Stats())
						require.InDelta(t, rest[closing.how], rested, float64(5*time.Second),
							"the kernel may have said what is left")
						if closing.how == tuple.ActiveClose {
							awaitTimeWait(t, c.Tuple(), to)
						} else {
							require.NotEqual(t, sockdiag.TimeWait, kernelState(t, c.Tuple(), to))
						}
					})
				}
			}
		}
	}
}

// awaitTimeWaitOf waits until the kernel has only TIME_WAIT of c.
func awaitTimeWaitOf(t *testing.T, c *dialer.TCPConn) {
	local, remote := c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
	require.Eventually(t, func() bool {
		s, _, err := sockdiag.Lookup(sockdiag.TCP, local, remote)
		return err == nil && s.State == sockdiag.TimeWait
	}, soon, time.Millisecond)
}

// writeAndAwait writes a byte at one end and waits until it has arrived at the other, where nobody reads it.
func writeAndAwait(t *testing.T, from, to interface {
	net.Conn
	SyscallConn() (syscall.RawConn, error)
},
) {
	_, err := from.Write([]byte("x"))
	require.NoError(t, err)
	raw, err := to.SyscallConn()
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		n := 0
		require.NoError(t, raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ) }))
		require.NoError(t, err)
		return n == 1
	}, soon, time.Millisecond)
}

// Concurrent closes of a connection give its tuple back once: the next holder keeps it.
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
					_, errs[i] = p.TryAcquire(to.addrPort()) // the next holder, which keeps it
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

// A connection that is no longer referenced gives back its tuple and its descriptor, whether the caller kept the
// TCPConn or the bare connection.
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

// The tuple of a dial that was refused or not answered cools down for CoolDown.NeverEstablished, because a NAT may
// remember it. If no packet was sent, it is free at once.
func TestTupleOfAFailedDialRests(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	p := pool("40000-40099")
	p.CoolDown.NeverEstablished = 30 * time.Second
	d := &dialer.Dialer{TCP: p}
	_, err := d.Dial("tcp", "127.0.0.1:1")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.Equal(t, tuple.Stats{Retired: 1, Destinations: 1}, p.Stats())

	silent := blackhole(t, "127.0.0.1:9000")
	d.NetDialer = &net.Dialer{Timeout: 10 * time.Millisecond}
	_, err = d.Dial("tcp", silent)
	require.True(t, err.(net.Error).Timeout())
	require.Equal(t, tuple.Stats{Retired: 2, Destinations: 2}, p.Stats())

	d.NetDialer = &net.Dialer{Control: func(string, string, syscall.RawConn) error { return syscall.EPERM }}
	_, err = d.Dial("tcp", silent)
	require.ErrorIs(t, err, syscall.EPERM)
	require.Equal(t, tuple.Stats{Retired: 2, Destinations: 2}, p.Stats())
}
