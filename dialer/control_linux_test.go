package dialer_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// A Control that binds the socket decides its tuple, and the pool follows.
func TestControlMayBind(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40099") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	p := pool("40000-40099")
	d := &dialer.Dialer{TCP: p, NetDialer: &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.Bind(int(fd), &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 9}})
		}), err)
	}}}
	c := dial(t, d, to.addr())
	require.Equal(t, "127.0.0.9", local(c).Addr().String())
	require.Equal(t, tuple.Stats{InUse: 1, Destinations: 1}, p.Stats(), "nothing is retired or taken")
	require.True(t, p.Contains(tuple.From(local(c), to.addrPort())))
	reset(c)
	require.Equal(t, tuple.Stats{}, p.Stats())
}

// An error of the caller's Control says nothing about the tuple.
func TestErrorOfControlIsNotTheKernels(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EADDRINUSE, syscall.EADDRNOTAVAIL} {
		for _, call := range []string{"bind", "connect"} {
			want := os.NewSyscallError(call, errno)
			calls := 0
			control := func(string, string, syscall.RawConn) error {
				calls++
				return want
			}
			d := &dialer.Dialer{TCP: pool("20000-20099"), NetDialer: &net.Dialer{Control: control}}
			_, err := d.Dial("tcp", closedPort(t, "127.0.0.1"))
			require.ErrorIs(t, err, want)
			require.NotErrorIs(t, err, tuple.ErrExhausted)
			require.Equal(t, 1, calls)
			require.Equal(t, tuple.Stats{}, d.TCP.Stats())
		}
	}
}

// The kernel binds to a broadcast address and connects from another one. The pool has the tuple that is in use.
func TestAccountIsOfTheTupleInUse(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40099") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	for range 20 { // in half of them the broadcast address comes first
		p := pool("20000", "127.255.255.255/32", "127.0.0.1/32")
		c := dial(t, &dialer.Dialer{TCP: p}, to.addr())
		require.True(t, p.Contains(tuple.From(local(c), to.addrPort())), "%v", local(c))
		reset(c)
	}
}

// Ports that are reserved while a dialer runs use the other lane. Only a few of them are taken on the way.
func TestPortsReservedMeanwhile(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999", "net.ipv4.ip_local_reserved_ports=") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	d := &dialer.Dialer{TCP: pool("40000-40099")}
	reset(dial(t, d, to.addr()))
	require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/ip_local_reserved_ports", []byte("40000-40099"), 0))
	reset(dial(t, d, to.addr()))
	require.Less(t, d.TCP.Stats().Retired, 10)
}

// If the kernel refused a port that the caller asked for, the next dial can still ask for it.
func TestPortAskedForIsNotParked(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	other, err := net.Listen("tcp", "127.0.0.1:20000")
	require.NoError(t, err)
	from := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:20000"))
	d := &dialer.Dialer{TCP: pool("20000"), NetDialer: &net.Dialer{LocalAddr: from}}
	_, err = d.Dial("tcp", to.addr())
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.NoError(t, other.Close())
	reset(dial(t, d, to.addr()))
	require.Equal(t, tuple.Stats{}, d.TCP.Stats())
}

// sock_diag does not find a socket that is bound to a device. Its tuple cools down as if in TIME_WAIT.
func TestSocketOnADeviceRests(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	d := &dialer.Dialer{TCP: pool("20000"), NetDialer: &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), "lo") }), err)
	}}}
	c := dial(t, d, to.addr())
	peer := to.accept(t, c)
	require.NoError(t, c.CloseWrite())
	_, err := peer.Read(make([]byte, 1))
	require.Error(t, err)
	require.NoError(t, peer.Close())
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	require.NoError(t, c.Close())
	require.Equal(t, tuple.Stats{Retired: 1, Destinations: 1}, d.TCP.Stats())
}
