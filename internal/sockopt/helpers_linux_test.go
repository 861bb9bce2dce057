package sockopt_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/internal/sockopt"
)

// family is an address family, and its loopback address.
type family struct {
	name     string
	domain   int
	loopback netip.Addr
}

var families = []family{
	{"IPv4", unix.AF_INET, netip.MustParseAddr("127.0.0.1")},
	{"IPv6", unix.AF_INET6, netip.IPv6Loopback()},
}

// eachFamily runs a test for both families, and skips one that the system does not have.
func eachFamily(t *testing.T, test func(t *testing.T, f family)) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			fd := f.socket(t, unix.SOCK_DGRAM, 0)
			if err := sockopt.BindPort(fd, netip.AddrPortFrom(f.loopback, 0)); err != nil {
				t.Skipf("%v is no address here: %v", f.loopback, err)
			}
			test(t, f)
		})
	}
}

// socket opens a socket, and closes it when the test ends.
func (f family) socket(t *testing.T, kind, protocol int) int {
	t.Helper()
	fd, err := unix.Socket(f.domain, kind|unix.SOCK_CLOEXEC, protocol)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOPROTOOPT) {
		t.Skipf("no such socket here: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func (f family) tcp(t *testing.T) int { return f.socket(t, unix.SOCK_STREAM, unix.IPPROTO_TCP) }

// listen returns a listening socket and its address.
func (f family) listen(t *testing.T) (fd int, at netip.AddrPort) {
	t.Helper()
	fd = f.tcp(t)
	require.NoError(t, sockopt.BindPort(fd, netip.AddrPortFrom(f.loopback, 0)))
	require.NoError(t, unix.Listen(fd, 16))
	return fd, local(t, fd)
}

// accept returns the next connection of a listening socket.
func accept(t *testing.T, listener int) int {
	t.Helper()
	fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// pair returns both ends of a connection.
func (f family) pair(t *testing.T) (client, server int) {
	t.Helper()
	listener, at := f.listen(t)
	client = f.tcp(t)
	require.NoError(t, sockopt.Connect(client, at))
	return client, accept(t, listener)
}

func local(t *testing.T, fd int) netip.AddrPort {
	t.Helper()
	at, err := sockopt.Local(fd)
	require.NoError(t, err)
	return at
}

func option(t *testing.T, fd, level, name int) int {
	t.Helper()
	value, err := unix.GetsockoptInt(fd, level, name)
	require.NoError(t, err)
	return value
}

// await waits for an event of a socket.
func await(t *testing.T, fd int, event int16) {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: event}}, -1)
		if !errors.Is(err, unix.EINTR) {
			require.NoError(t, err)
			require.Equal(t, 1, n)
			return
		}
	}
}

// closed returns a descriptor that is not open.
func closed(t *testing.T) int {
	t.Helper()
	var pipe [2]int
	require.NoError(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	const far = 900 // where nobody else opens one meanwhile
	require.NoError(t, unix.Dup3(pipe[0], far, unix.O_CLOEXEC))
	for _, fd := range []int{pipe[0], pipe[1], far} {
		require.NoError(t, unix.Close(fd))
	}
	return far
}
