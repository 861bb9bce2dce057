package dialer_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// others connects to a peer from a port without the dialer.
type others func(t *testing.T, to *peer, port uint16)

func explicit(reuse bool) others {
	return func(t *testing.T, to *peer, port uint16) {
		nd := net.Dialer{
			LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(to.addrPort().Addr(), port)),
			Control: func(_, _ string, c syscall.RawConn) (err error) {
				if reuse {
					c.Control(func(fd uintptr) {
						err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
					})
				}
				return err
			},
		}
		c, err := nd.Dial("tcp", to.addr())
		require.NoError(t, err)
		t.Cleanup(func() { c.(*net.TCPConn).SetLinger(0); c.Close() })
	}
}

// automatic lets the kernel choose the port. The kernel must have only that one.
func automatic(t *testing.T, to *peer, port uint16) {
	sysctl(t, "net.ipv4.ip_local_port_range", fmt.Sprint(port, port))
	c, err := net.Dial("tcp", to.addr())
	require.NoError(t, err)
	require.Equal(t, port, local(c).Port())
	t.Cleanup(func() { c.(*net.TCPConn).SetLinger(0); c.Close() })
}

// predecessor leaves TIME_WAIT.
func predecessor(t *testing.T, to *peer, port uint16) {
	c := dial(t, &dialer.Dialer{TCP: pool(fmt.Sprint(port))}, to.addr())
	a := to.accept(t, c)
	require.NoError(t, c.CloseWrite())
	require.NoError(t, a.Close())
	require.NoError(t, c.Close())
	awaitTimeWait(t, c.Tuple(), to)
}

// If other programs have all tuples except one, a dial finds that one. If they have all, the error says so and counts
// them.
func TestNoFreeTupleIsMissed(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999",
		"net.ipv4.tcp_tw_reuse=0", "net.ipv4.tcp_timestamps=0") {
		return
	}
	const n = 6
	port := uint16(0) // each case uses its own port
	for _, lane := range []struct {
		name  string
		first uint16
		held  map[string]others
	}{
		{"range", 40000, map[string]others{
			"explicitly": explicit(false), "explicitly with REUSEADDR": explicit(true),
			"automatically": automatic, "by TIME_WAIT": predecessor,
		}},
		{"bind", 20000, map[string]others{
			"explicitly": explicit(false), "explicitly with REUSEADDR": explicit(true), "by TIME_WAIT": predecessor,
		}},
	} {
		for how, hold := range lane.held {
			for _, listenOn := range []string{"127.0.0.1:9000", "[::1]:9000"} {
				for _, from := range []string{"", "from a source"} {
					port += n
					first := lane.first + port
					t.Run(fmt.Sprintf("%s/held %s/to %s/%s", lane.name, how, listenOn, from), func(t *testing.T) {
						to := listen(t, "tcp", listenOn)
						for p := first; p < first+n-1; p++ {
							hold(t, to, p)
						}
						sysctl(t, "net.ipv4.ip_local_port_range", "40000 40999")
						p := pool(fmt.Sprintf("%d-%d", first, first+n-1))
						if ip := to.addrPort().Addr(); from != "" {
							p.Sources = []netip.Prefix{netip.PrefixFrom(ip, ip.BitLen())}
						}
						d := &dialer.Dialer{TCP: p}
						c := dial(t, d, to.addr())
						require.Equal(t, first+n-1, local(c).Port(), "the last free port")
						require.Equal(t, 1, p.Stats().InUse)

						_, err := d.Dial("tcp", to.addr())
						require.ErrorIs(t, err, tuple.ErrExhausted)
						require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
						require.ErrorContains(t, err, "cannot assign requested address")
						require.ErrorContains(t, err, fmt.Sprintf("(1 in use, %d taken", n-1))
						reset(c)
					})
				}
			}
		}
	}
}

// counted returns a net.Dialer that counts the sockets that it makes.
func counted(n *atomic.Int32) *net.Dialer {
	return &net.Dialer{ControlContext: func(context.Context, string, string, syscall.RawConn) error {
		n.Add(1)
		return nil
	}}
}

// A source that is not on the host gives its own error, after one try. No tuple is taken for it.
func TestSourceThatIsNotOnTheHostIsItsOwnError(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	for _, ports := range []string{"40000-40999", "20000-20999"} {
		for source, to := range map[string]string{"192.0.2.1/32": "127.0.0.1:9000", "2001:db8::1/128": "[::1]:9000"} {
			t.Run(ports+" "+source, func(t *testing.T) {
				p := pool(ports, source)
				var sockets atomic.Int32
				d := &dialer.Dialer{TCP: p, NetDialer: counted(&sockets)}
				_, err := d.Dial("tcp", listen(t, "tcp", to).addr())
				require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
				require.NotErrorIs(t, err, tuple.ErrExhausted)
				require.ErrorContains(t, err, "the source address is not on this host")
				require.ErrorContains(t, err, "("+netip.MustParsePrefix(source).Addr().String()+")")
				require.EqualValues(t, 1, sockets.Load(), "one try")
				require.Equal(t, tuple.Stats{}, p.Stats())
				var op *net.OpError
				require.True(t, errors.As(err, &op))
				require.Equal(t, netip.MustParsePrefix(source).Addr(), op.Source.(*net.TCPAddr).AddrPort().Addr())
			})
		}
	}
}

// Without Sources, the kernel answers in a family without an address as if the tuple was in use. No port helps, and no
// tuple is taken.
func TestNoSourceAddressOfTheFamilyEndsAtOnce(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999", "net.ipv6.conf.lo.disable_ipv6=1") {
		return
	}
	for _, ports := range []string{"40000-40999", "20000-20999"} {
		t.Run(ports, func(t *testing.T) {
			p := pool(ports)
			var sockets atomic.Int32
			d := &dialer.Dialer{TCP: p, NetDialer: counted(&sockets)}
			_, err := d.Dial("tcp", "[::1]:80")
			require.Error(t, err)
			require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
			require.NotErrorIs(t, err, tuple.ErrExhausted)
			require.EqualValues(t, 1, sockets.Load(), "one try")
			require.Equal(t, tuple.Stats{}, p.Stats())
		})
	}
}

// The dialer finds out whether the kernel has a source address even if no UDP port is left.
func TestTakenTupleIsNotMistakenWhenUDPPortsHaveRunOut(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40003") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	for range 4 {
		c, err := net.Dial("udp", "127.0.0.1:9")
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
	}
	for port := range uint16(3) {
		explicit(true)(t, to, 40000+port)
	}
	c := dial(t, &dialer.Dialer{TCP: pool("40000-40003")}, to.addr())
	require.EqualValues(t, 40003, local(c).Port())
}
