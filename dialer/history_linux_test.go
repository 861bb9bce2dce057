package dialer_test

import (
	"fmt"
	"net"
	"net/netip"
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

// A port has a history in the kernel: which sockets bound it, and what the range was when it was used. In these tests
// the history of a port requires another lane than the host's settings.

// bindPort binds a port until the test ends, without connecting.
func bindPort(t *testing.T, port uint16, reuse int) {
	t.Helper()
	fd := rawSocket(t, unix.AF_INET)
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, reuse))
	_, sa := sockaddr(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
	require.NoError(t, unix.Bind(fd, sa))
}

// A port of the range that another socket has bound can be used if that socket shares it (SO_REUSEADDR), connected or
// not. If not, the dial skips the port.
func TestPortThatSomebodyHasBound(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	to, other := listen(t, "tcp", "127.0.0.1:9000"), listen(t, "tcp", "127.0.0.1:9001")
	for _, first := range []uint16{40000, 20000} {
		bindPort(t, first, 1)
		explicit(true)(t, other, first+1)
		for _, port := range []uint16{first, first + 1} {
			p := pool(fmt.Sprint(port))
			c := dial(t, &dialer.Dialer{TCP: p}, to.addr())
			require.Equal(t, port, local(c).Port())
			require.NoError(t, c.Abort())
			require.Equal(t, tuple.Stats{}, p.Stats())
		}
		bindPort(t, first+2, 0)
		p := pool(fmt.Sprintf("%d-%d", first+2, first+3))
		c := dial(t, &dialer.Dialer{TCP: p}, to.addr())
		require.Equal(t, first+3, local(c).Port())
		_, err := (&dialer.Dialer{TCP: p}).Dial("tcp", to.addr())
		require.ErrorIs(t, err, tuple.ErrExhausted)
		require.Equal(t, tuple.Stats{InUse: 1, Taken: 1, Destinations: 1}, p.Stats())
	}
}

// changes are the ways in which a Dialer learns that the range has moved: it reads it, or it sees the port that came
// out.
var changes = map[string]func(t testing.TB, name, value string){"read": sysctl, "not read": quietSysctl}

// If the range is widened over ports that connections have bound, each of them serves further destinations.
func TestRangeThatIsWidenedOverBoundPorts(t *testing.T) {
	for how, change := range changes {
		t.Run(how, func(t *testing.T) {
			if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
				return
			}
			to, other := listen(t, "tcp", "127.0.0.1:9000"), listen(t, "tcp", "127.0.0.1:9001")
			p := pool("20000-20019", "127.0.0.1/32")
			d := &dialer.Dialer{TCP: p}
			for range 20 {
				dial(t, d, other.addr())
			}
			change(t, "net.ipv4.ip_local_port_range", "20000 40999")
			for range 20 {
				c := dial(t, d, to.addr())
				require.Equal(t, local(c).Port(), c.Tuple().Src().Port())
			}
			require.Equal(t, tuple.Stats{InUse: 40, Destinations: 2}, p.Stats())
			_, err := d.Dial("tcp", to.addr())
			require.ErrorIs(t, err, tuple.ErrExhausted)
		})
	}
}

// If the range is narrowed while connections are open on ports that left it, nobody can bind those ports. Dials skip
// them, and use them again when the connections are gone.
func TestRangeThatIsNarrowedOverOpenConnections(t *testing.T) {
	for how, change := range changes {
		t.Run(how, func(t *testing.T) {
			if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
				return
			}
			to, other := listen(t, "tcp", "127.0.0.1:9000"), listen(t, "tcp", "127.0.0.1:9001")
			p := pool("40500-40539", "127.0.0.1/32")
			d := &dialer.Dialer{TCP: p}
			var open []*dialer.TCPConn
			for range 20 {
				open = append(open, dial(t, d, other.addr()))
			}
			change(t, "net.ipv4.ip_local_port_range", "40000 40099")
			var conns []*dialer.TCPConn
			for range 20 {
				conns = append(conns, dial(t, d, to.addr()))
			}
			for _, c := range append(open, conns...) {
				require.Equal(t, local(c).Port(), c.Tuple().Src().Port())
				require.NoError(t, c.Abort())
			}
			require.Zero(t, p.Stats().InUse)
			d.Wait = soon
			for range 40 {
				dial(t, d, to.addr())
			}
		})
	}
}

// fixedPort returns a net.Dialer that asks for a port. Its Control shares the port, as net.Dialer allows.
func fixedPort(port int) *net.Dialer {
	return &net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port},
		Control: func(_, _ string, c syscall.RawConn) (err error) {
			control := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			})
			if control != nil {
				return control
			}
			return err
		},
	}
}

// A port that the caller asks for and shares works as with net.Dialer while its tuple cools down in the pool: the
// kernel lets a bound socket use a tuple in TIME_WAIT at once if both ends send timestamps.
func TestPortAskedForWorksAsWithNetDialer(t *testing.T) {
	for _, reuse := range []int{0, 1} {
		t.Run(fmt.Sprint("tcp_tw_reuse=", reuse), func(t *testing.T) {
			if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999",
				fmt.Sprint("net.ipv4.tcp_tw_reuse=", reuse)) {
				return
			}
			to := listen(t, "tcp", "127.0.0.1:9000")
			p := pool("40000-40999,20000-20999")
			for _, port := range []int{40000, 20000} {
				for _, dial := range []func(string, string) (net.Conn, error){
					fixedPort(port).Dial, (&dialer.Dialer{TCP: p, NetDialer: fixedPort(port + 1)}).Dial,
				} {
					for range 3 {
						c, err := dial("tcp", to.addr())
						require.NoError(t, err)
						a := to.accept(t, c)
						require.NoError(t, c.Close())
						awaitFIN(t, a)
						require.NoError(t, a.Close())
						awaitTimeWaitAt(t, tuple.From(local(c), to.addrPort()))
					}
				}
			}
			require.Equal(t, tuple.Stats{Retired: 2, Destinations: 1}, p.Stats())
		})
	}
}

// awaitTimeWaitAt waits until the kernel has TIME_WAIT on a tuple.
func awaitTimeWaitAt(t *testing.T, tu tuple.Tuple) {
	t.Helper()
	require.Eventually(t, func() bool {
		s, _, err := sockdiag.Lookup(sockdiag.TCP, tu.Src(), tu.Dst())
		return err == nil && s.State == sockdiag.TimeWait
	}, soon, time.Millisecond)
}

// A port that the caller asks for is usable although the pool expects a TIME_WAIT that never came. A CoolDown of the
// user keeps it.
func TestPortAskedForWhileItsTupleCoolsDown(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999", "net.ipv4.tcp_tw_reuse=0") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	for _, port := range []int{40000, 20000} {
		for _, keep := range []time.Duration{0, 7 * time.Second} {
			p := pool(fmt.Sprint(port), "127.0.0.1/32")
			p.CoolDown.ActiveClose = keep
			d := &dialer.Dialer{TCP: p, NetDialer: fixedPort(port)}
			c := dial(t, d, to.addr())
			a := to.accept(t, c)
			require.NoError(t, c.Close())
			noTimeWait["reset by the peer"](t, a)
			require.Equal(t, 1, p.Stats().Retired)
			c2, err := d.Dial("tcp", to.addr())
			if keep == 0 {
				require.NoError(t, err)
				require.NoError(t, c2.(*dialer.TCPConn).Abort())
				to.accept(t, c2)
				continue
			}
			require.ErrorIs(t, err, syscall.EADDRINUSE)
		}
	}
}
