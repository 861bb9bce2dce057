package dialer_test

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// A kernel before Linux 6.3 is left to choose among its own ports, where the pool has all of them: the pool enters what it
// chose, to the last port towards each destination, and other programs' dials go on finding ports.
func TestOldKernelChoosesAndThePoolFollows(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40015") {
		return
	}
	dialer.ForceOldKernel()
	const ports, destinations = 16, 3
	for i, family := range []struct{ ip, source string }{
		{"127.0.0.1", ""}, {"127.0.0.1", "127.0.0.5/32"}, {"::1", ""}, {"::1", "::1/128"},
	} {
		t.Run(family.ip+" from "+family.source, func(t *testing.T) {
			p := pool("40000-40015")
			if family.source != "" {
				p = pool("40000-40015", family.source)
			}
			d := &dialer.Dialer{TCP: p}
			var conns []*dialer.TCPConn
			for j := range destinations {
				to := listen(t, "tcp", net.JoinHostPort(family.ip, fmt.Sprint(9000+10*i+j)))
				for range ports {
					c := dial(t, d, to.addr())
					require.Equal(t, local(c).Port(), c.Tuple().Src().Port(), "the pool has what the kernel chose")
					require.True(t, p.Contains(c.Tuple()))
					conns = append(conns, c)
				}
				_, err := d.Dial("tcp", to.addr())
				require.ErrorIs(t, err, tuple.ErrExhausted)
			}
			require.Equal(t, tuple.Stats{InUse: ports * destinations, Destinations: destinations}, p.Stats())

			other := listen(t, "tcp", net.JoinHostPort(family.ip, fmt.Sprint(9009+10*i)))
			c, err := net.Dial("tcp", other.addr())
			require.NoError(t, err, "the ports are shared with everybody")
			c.Close()
			for _, c := range conns {
				require.NoError(t, c.Abort())
			}
			require.Equal(t, tuple.Stats{}, p.Stats())
		})
	}
}

// What cools down in the pool is not used again because an older kernel would: the pool's own choice is bound then.
func TestOldKernelsChoiceThatCoolsDownIsNotUsed(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40003") {
		return
	}
	dialer.ForceOldKernel()
	to := listen(t, "tcp", "127.0.0.1:9000")
	p := pool("40000-40003")
	p.CoolDown.Reset = time.Minute
	d := &dialer.Dialer{TCP: p}
	seen := map[uint16]bool{}
	for range 4 {
		c := dial(t, d, to.addr())
		require.False(t, seen[local(c).Port()])
		require.Equal(t, local(c).Port(), c.Tuple().Src().Port())
		seen[local(c).Port()] = true
		require.NoError(t, c.Abort())
	}
	require.Equal(t, 4, p.Stats().Retired)
}

// Of the kernel's ports a pool that has only some gets those, on an older kernel too, for it binds them.
func TestOldKernelGivesAPoolItsPart(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	dialer.ForceOldKernel()
	to := listen(t, "tcp", "127.0.0.1:9000")
	p := pool("40100-40103")
	d := &dialer.Dialer{TCP: p}
	for range 4 {
		require.True(t, p.Ports.Contains(local(dial(t, d, to.addr())).Port()))
	}
	_, err := d.Dial("tcp", to.addr())
	require.ErrorIs(t, err, tuple.ErrExhausted)
}

// Threads may be in several network namespaces, each with a range of ports of its own: in each a port takes the lane that is
// its own there.
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

// On another system the operating system chooses the port, and the pool keeps the account: what came out is in it, it is full
// when it is, a dial waits, and each way out gives back what it took.
func TestOtherSystemKeepsTheAccount(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40099") {
		return
	}
	dialer.ForceOtherSystem()
	to := listen(t, "tcp", "127.0.0.1:9000")
	udp := echoUDP(t, "127.0.0.1:9000")
	for _, sources := range [][]string{nil, {"127.0.0.1/32"}} {
		p, u := pool("40000-40099", sources...), pool("40000-40099", sources...)
		p.MaxTuples = 5
		d := &dialer.Dialer{TCP: p, UDP: u, Wait: soon}
		var conns []*dialer.TCPConn
		for range 5 {
			c := dial(t, d, to.addr())
			require.Equal(t, local(c).Port(), c.Tuple().Src().Port())
			require.True(t, p.Contains(c.Tuple()))
			conns = append(conns, c)
		}
		require.Equal(t, 5, p.Stats().InUse)
		go func() {
			for p.Stats().Waiting == 0 {
				time.Sleep(time.Millisecond)
			}
			conns[0].Abort()
		}()
		conns = append(conns, dial(t, d, to.addr()))
		for _, c := range conns[1:] {
			require.NoError(t, c.Abort())
		}
		c := dialUDP(t, d, udp.String())
		require.Equal(t, localUDP(c).Port(), c.Tuple().Src().Port())
		require.Equal(t, 1, u.Stats().InUse)
		require.NoError(t, c.Close())

		_, err := d.Dial("tcp", closedPort(t, "127.0.0.1"))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		asked := &dialer.Dialer{TCP: p, NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40007}}}
		a := dial(t, asked, to.addr())
		require.EqualValues(t, 40007, local(a).Port())
		require.Equal(t, 1, p.Stats().InUse)
		require.NoError(t, a.Abort())
		require.Equal(t, tuple.Stats{}, p.Stats())
		require.Equal(t, tuple.Stats{}, u.Stats())
	}
}
