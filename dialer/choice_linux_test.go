package dialer_test

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/seccomp"
	"github.com/ephemera-go/ephemera/tuple"
)

// controlled returns a net.Dialer whose Control calls f with each socket.
func controlled(f func(fd int) error) *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) { err = f(int(fd)) })
		return err
	}}
}

// A socket that the caller's Control bound to a device stays bound to it, on a port of its own and on a shared one.
func TestUDPSocketKeepsItsDevice(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	nd := controlled(func(fd int) error { return unix.BindToDevice(fd, "lo") })
	for _, ip := range []string{"127.0.0.1", "::1"} {
		d := &dialer.Dialer{UDP: pool("20000"), NetDialer: nd}
		for i := range 3 {
			c := dialUDP(t, d, net.JoinHostPort(ip, fmt.Sprint(9000+i)))
			raw, err := c.SyscallConn()
			require.NoError(t, err)
			raw.Control(func(fd uintptr) {
				device, err := unix.GetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
				require.NoError(t, err)
				require.Equal(t, "lo", device)
			})
		}
	}
}

// The caller's Control may choose the local end, as with net.Dialer: an address, a port, a range of ports.
func TestControlMayChooseTheLocalEnd(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	addrs := map[string]string{
		"tcp": listen(t, "tcp", "127.0.0.1:9000").addr(),
		"udp": echoUDP(t, "127.0.0.1:9000").String(),
	}
	for name, c := range map[string]struct {
		choose func(fd int) error
		want   func(local netip.AddrPort) bool
	}{
		"a port": {
			func(fd int) error { return unix.Bind(fd, &unix.SockaddrInet4{Port: 5555}) },
			func(local netip.AddrPort) bool { return local.Port() == 5555 },
		},
		"an address": {
			func(fd int) error { return unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 5}}) },
			func(local netip.AddrPort) bool { return local.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 5}) },
		},
		"an address without a port": {
			func(fd int) error {
				if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
					return err
				}
				return unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 6}})
			},
			func(local netip.AddrPort) bool { return local.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 6}) },
		},
		"a range of ports": {
			func(fd int) error {
				first, last := 40100, 40109
				return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, last<<16|first)
			},
			func(local netip.AddrPort) bool { return !dialer.HasRangeLane() || local.Port()/10 == 4010 },
		},
	} {
		for network, addr := range addrs {
			conn, err := (&dialer.Dialer{NetDialer: controlled(c.choose)}).Dial(network, addr)
			require.NoError(t, err, "%s %s", name, network)
			local := conn.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
			require.True(t, c.want(local), "%s %s: %v", name, network, local)
			if tc, ok := conn.(*dialer.TCPConn); ok {
				reset(tc)
			}
			conn.Close()
		}
	}
}

// A process that may not bind can dial UDP as often as with net.Dialer.
func TestUDPWithoutBindNeverRunsOut(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40011") {
		return
	}
	seccomp.Answer(t, unix.SYS_BIND, unix.EACCES)
	for range 200 {
		c, err := new(dialer.Dialer).Dial("udp", "127.0.0.1:9000")
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
}

// Dials inside a synctest bubble and outside find nothing free at the same time. Neither waits for something of the
// other.
func TestDialsInABubbleAndOutsideCompareTogether(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40001") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000").addr()
	dials := func() {
		for range 300 {
			if c, err := new(dialer.Dialer).Dial("tcp", to); err == nil {
				c.(*dialer.TCPConn).Abort()
			}
		}
	}
	var outside sync.WaitGroup
	outside.Go(dials)
	outside.Go(dials)
	synctest.Test(t, func(*testing.T) { dials() })
	outside.Wait()
}

// A dial of the zero Dialer uses ports that have lost their listener before it fails.
func TestPortsOfPastListenersAreUsed(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40004") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000").addr()
	var listeners []net.Listener
	for port := 40001; port <= 40004; port++ {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		require.NoError(t, err)
		listeners = append(listeners, l)
	}
	dial(t, new(dialer.Dialer), to)
	for _, l := range listeners {
		require.NoError(t, l.Close())
	}
	for range 4 {
		require.Eventually(t, func() bool {
			c, err := new(dialer.Dialer).Dial("tcp", to)
			if err == nil {
				t.Cleanup(func() { reset(c.(*dialer.TCPConn)) })
			}
			return err == nil
		}, soon, time.Millisecond)
	}
}

// The tuple of a UDP socket that the garbage collector closed becomes free when nothing else is free, because the
// kernel has no socket on it.
func TestTupleOfACollectedUDPSocketIsFreeInNeed(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	p := pool("20000-20003")
	d := &dialer.Dialer{UDP: p}
	for range 4 {
		_, err := d.Dial("udp", "127.0.0.1:9000")
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { runtime.GC(); return p.Stats().InUse == 0 }, soon, time.Millisecond)
	require.Equal(t, tuple.Stats{Retired: 4, Destinations: 1}, p.Stats())
	require.Eventually(t, func() bool {
		c, err := d.Dial("udp", "127.0.0.1:9000")
		if err == nil {
			c.Close()
		}
		return err == nil
	}, 5*time.Second, time.Millisecond, "long before the 10 s are over")
}

// For tcp_tw_reuse=2, a socket that is bound to lo is on loopback, whatever its addresses are.
func TestTimeWaitOfASocketOnLoIsReused(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40003", "net.ipv4.tcp_tw_reuse=2") {
		return
	}
	netns.AddAddr(t, netip.MustParsePrefix("10.9.9.9/32"))
	to := listen(t, "tcp", "10.9.9.9:9000")
	nd := controlled(func(fd int) error { return unix.BindToDevice(fd, "lo") })
	for _, ports := range []string{"40000-40003", "20000-20003"} {
		p := pool(ports)
		var delay time.Duration
		p.Trace = &tuple.Trace{Retired: func(_ tuple.Tuple, d time.Duration) { delay = d }}
		c := dial(t, &dialer.Dialer{TCP: p, NetDialer: nd}, to.addr())
		a := to.accept(t, c)
		require.NoError(t, c.Close())
		require.NoError(t, a.Close())
		require.NotZero(t, delay)
		require.Less(t, delay, 2*time.Second)
	}
}
