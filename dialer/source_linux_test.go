package dialer_test

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// With a route, a whole /64 serves as sources. Each connection leaves from another address, in each lane, for TCP and
// UDP.
func TestWholePrefixAsSources(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	for _, prefix := range []string{"2001:db8:7::/64", "198.51.100.0/24"} {
		netns.AddRoute(t, netip.MustParsePrefix(prefix))
	}
	for _, c := range []struct {
		to, prefix string
		freeBind   bool
	}{
		{"[::1]:9000", "2001:db8:7::/64", true},
		{"127.0.0.1:9000", "198.51.100.0/24", false},
		{"127.0.0.1:9001", "198.51.100.0/24", true},
	} {
		for _, ports := range []string{"40000", "20000"} {
			t.Run(c.prefix+" "+ports+fmt.Sprint(c.freeBind), func(t *testing.T) {
				listen(t, "tcp", c.to)
				echoUDP(t, c.to)
				p, u := pool(ports, c.prefix), pool(ports, c.prefix)
				d := &dialer.Dialer{TCP: p, UDP: u, FreeBind: c.freeBind}
				for _, network := range []string{"tcp", "udp"} {
					const n = 200
					from := map[string]bool{}
					for range n {
						conn, err := d.Dial(network, c.to)
						require.NoError(t, err)
						t.Cleanup(func() { conn.Close() })
						host, port, err := net.SplitHostPort(conn.LocalAddr().String())
						require.NoError(t, err)
						require.Equal(t, ports, port)
						require.True(t, netip.MustParsePrefix(c.prefix).Contains(netip.MustParseAddr(host)))
						from[host] = true
						if network == "udp" {
							_, err = conn.Write([]byte("hello"))
							require.NoError(t, err)
							_, err = conn.Read(make([]byte, 100))
							require.NoError(t, err, "and the answers arrive")
						}
					}
					require.Len(t, from, n, "there is one port")
				}
				require.Equal(t, tuple.Stats{InUse: 200, Destinations: 1}, p.Stats())
				require.Equal(t, tuple.Stats{InUse: 200, Destinations: 1}, u.Stats())

				one := netip.MustParsePrefix(c.prefix).Addr().Next()
				l, err := d.ListenPacket(t.Context(), "udp", net.JoinHostPort(one.String(), "0"))
				require.NoError(t, err)
				require.NoError(t, l.Close())
			})
		}
	}
}

// A source that is not on the host gives an error at once that says what to do. Nothing is held.
func TestSourceThatIsNotOnTheHost(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	for _, c := range []struct{ network, to, source, fix string }{
		{"tcp", "127.0.0.1:9000", "203.0.113.9/32", "ip addr add ADDRESS dev DEVICE"},
		{"udp", "127.0.0.1:9000", "203.0.113.9/32", "ip route add local PREFIX dev lo"},
		{"tcp", "[::1]:9000", "2001:db8::9/128", "set Dialer.FreeBind"},
		{"udp", "[::1]:9000", "2001:db8::9/128", "set Dialer.FreeBind"},
	} {
		for _, ports := range []string{"40000", "20000"} {
			t.Run(fmt.Sprint(c, ports), func(t *testing.T) {
				p := pool(ports, c.source)
				d := &dialer.Dialer{TCP: p, UDP: p}
				op := opError(t, d, c.network, c.to)
				require.ErrorIs(t, op, syscall.EADDRNOTAVAIL)
				require.NotErrorIs(t, op, tuple.ErrExhausted)
				require.ErrorContains(t, op, "the source address is not on this host")
				require.ErrorContains(t, op, c.fix)
				require.Equal(t, tuple.Stats{}, p.Stats())
			})
		}
		_, err := new(dialer.Dialer).ListenPacket(t.Context(), "udp",
			net.JoinHostPort(netip.MustParsePrefix(c.source).Addr().String(), "0"))
		require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
		require.ErrorContains(t, err, c.fix)
	}
}

// FreeBind needs no privilege if there is a route. If there is none, the error says so too.
func TestFreeBindWithoutPrivilege(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	netns.AddRoute(t, netip.MustParsePrefix("2001:db8:7::/64"))
	listen(t, "tcp", "[::1]:9000")
	listen(t, "tcp", "127.0.0.1:9000")
	runtime.LockOSThread() // what follows is the thread's alone
	defer runtime.UnlockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had, none [2]unix.CapUserData
	require.NoError(t, unix.Capget(&header, &had[0]))
	none = had
	none[0].Effective, none[1].Effective = 0, 0
	require.NoError(t, unix.Capset(&header, &none[0]))
	defer unix.Capset(&header, &had[0])

	for _, ports := range []string{"40000", "20000"} {
		p := pool(ports, "2001:db8:7::/64")
		d := &dialer.Dialer{TCP: p, FreeBind: true}
		dial(t, d, "[::1]:9000")
		p = pool(ports, "203.0.113.9/32")
		d = &dialer.Dialer{TCP: p, FreeBind: true}
		op := opError(t, d, "tcp", "127.0.0.1:9000")
		require.ErrorContains(t, op, "the source address is not on this host: add a route for it")
		require.Equal(t, tuple.Stats{}, p.Stats())
	}
}

// The caller's Control may mark the socket and bind it to a device, as for net.Dialer.
func TestControlMayMarkAndBindToADevice(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	var set sync.Map
	nd := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		c.Control(func(fd uintptr) {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, 77); err == nil {
				err = unix.BindToDevice(int(fd), "lo")
			}
		})
		return err
	}}
	for _, to := range []string{"127.0.0.1:9000", "[::1]:9000"} {
		listen(t, "tcp", to)
		echoUDP(t, to)
		for _, ports := range []string{"40000", "20000"} {
			p, u := pool(ports), pool(ports)
			d := &dialer.Dialer{NetDialer: nd, TCP: p, UDP: u}
			for _, network := range []string{"tcp", "udp"} {
				conn, err := d.Dial(network, to)
				require.NoError(t, err)
				raw, err := conn.(syscall.Conn).SyscallConn()
				require.NoError(t, err)
				raw.Control(func(fd uintptr) {
					mark, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK)
					device, _ := unix.GetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
					set.Store(network+to+ports, fmt.Sprint(mark, device))
				})
				got, _ := set.Load(network + to + ports)
				require.Equal(t, "77lo", got)
				if c, ok := conn.(*dialer.TCPConn); ok {
					require.NoError(t, c.SetLinger(0))
				}
				require.NoError(t, conn.Close())
			}
			require.Equal(t, tuple.Stats{}, p.Stats())
			require.Equal(t, tuple.Stats{}, u.Stats())
		}
	}
}
