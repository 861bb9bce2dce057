package sockopt_test

import (
	"bufio"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockopt"
)

// onePort returns a socket whose connect takes this port.
func (f family) onePort(t *testing.T, port uint16) int {
	t.Helper()
	fd := f.tcp(t)
	if err := sockopt.OnePort(fd, port); errors.Is(err, unix.ENOPROTOOPT) {
		t.Skipf("an older kernel: %v", err)
	}
	require.NoError(t, sockopt.BindAddress(fd, f.loopback))
	require.Equal(t, 1, option(t, fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT))
	require.Equal(t, netip.AddrPortFrom(f.loopback, 0), local(t, fd), "connect chooses the port")
	kept := uint32(option(t, fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE))
	require.Equal(t, uint32(port)<<16|uint32(port), kept)
	return fd
}

func TestConnectTakesTheOnePortOncePerDestination(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 60999") {
		return
	}
	eachFamily(t, func(t *testing.T, f family) {
		first, at := f.listen(t)
		_, elsewhere := f.listen(t)
		for _, port := range []uint16{40000, 40123, 60999} {
			fd := f.onePort(t, port)
			require.NoError(t, sockopt.Connect(fd, at))
			require.Equal(t, netip.AddrPortFrom(f.loopback, port), local(t, fd))
			accept(t, first)
			require.ErrorIs(t, sockopt.Connect(f.onePort(t, port), at), unix.EADDRNOTAVAIL, "the tuple is taken")
			other := f.onePort(t, port)
			require.NoError(t, sockopt.Connect(other, elsewhere))
			require.Equal(t, port, local(t, other).Port())
		}
	})
	require.ErrorIs(t, sockopt.OnePort(closed(t), 40000), unix.EBADF)
	require.ErrorIs(t, sockopt.BindAddress(closed(t), families[0].loopback), unix.EBADF)
}

func TestConnectBeginsWithoutWaiting(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	eachFamily(t, func(t *testing.T, f family) {
		listener, at := f.listen(t)
		fd := f.socket(t, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		require.NoError(t, sockopt.Connect(fd, at))
		await(t, fd, unix.POLLOUT)
		require.Zero(t, option(t, fd, unix.SOL_SOCKET, unix.SO_ERROR))
		accept(t, listener)

		require.NoError(t, unix.Close(listener))
		refused := f.socket(t, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err := sockopt.Connect(refused, at); err == nil {
			await(t, refused, unix.POLLOUT)
			require.Equal(t, int(unix.ECONNREFUSED), option(t, refused, unix.SOL_SOCKET, unix.SO_ERROR))
		} else {
			require.ErrorIs(t, err, unix.ECONNREFUSED)
		}
	})
	fd := families[0].tcp(t)
	require.ErrorIs(t, sockopt.Connect(fd, netip.MustParseAddrPort("192.0.2.1:9")), unix.ENETUNREACH)
	require.ErrorContains(t, sockopt.Connect(closed(t), netip.MustParseAddrPort("127.0.0.1:9")), "connect")
}

// timeWaits counts the sockets in TIME_WAIT in the network namespace.
func timeWaits(t *testing.T) (n int) {
	for _, table := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		file, err := os.Open(table)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if fields := strings.Fields(lines.Text()); len(fields) > 3 && fields[3] == "06" {
				n++
			}
		}
		require.NoError(t, file.Close())
	}
	return n
}

func TestRenewLeavesNoTimeWait(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	eachFamily(t, func(t *testing.T, f family) {
		listener, at := f.listen(t)
		from, others := netip.AddrPortFrom(f.loopback, 4000), timeWaits(t)
		for range 3 { // the port is free at once
			fd := f.tcp(t)
			require.NoError(t, sockopt.BindPort(fd, from))
			require.NoError(t, sockopt.Connect(fd, at))
			server := accept(t, listener)
			require.NoError(t, sockopt.Renew(fd))
			require.Equal(t, others, timeWaits(t))
			_, err := unix.Read(server, make([]byte, 1))
			require.ErrorIs(t, err, unix.ECONNRESET)
			require.False(t, sockopt.IsChosen(fd))
		}

		// That it can be seen: close(2) alone leaves one.
		fd := f.tcp(t)
		require.NoError(t, sockopt.Connect(fd, at))
		server := accept(t, listener)
		require.NoError(t, unix.Shutdown(fd, unix.SHUT_WR))
		n, err := unix.Read(server, make([]byte, 1))
		require.NoError(t, err)
		require.Zero(t, n)
		require.NoError(t, unix.Shutdown(server, unix.SHUT_WR))
		await(t, fd, unix.POLLIN|unix.POLLRDHUP)
		require.Equal(t, others+1, timeWaits(t))
	})
}

func TestRenewedSocketIsOfTheSameKind(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		for name, kind := range map[string][2]int{
			"tcp": {unix.SOCK_STREAM, unix.IPPROTO_TCP}, "udp": {unix.SOCK_DGRAM, unix.IPPROTO_UDP},
			"multipath": {unix.SOCK_STREAM, unix.IPPROTO_MPTCP},
		} {
			for _, only := range []int{0, 1} {
				t.Run(name, func(t *testing.T) { checkRenewed(t, f, kind, only) })
			}
		}
	})
	require.ErrorIs(t, sockopt.Renew(closed(t)), unix.EBADF)
}

func checkRenewed(t *testing.T, f family, kind [2]int, onlyIPv6 int) {
	fd := f.socket(t, kind[0], kind[1])
	if f.domain == unix.AF_INET6 {
		require.NoError(t, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, onlyIPv6))
	}
	require.NoError(t, sockopt.ShareBind(fd))
	// Binding it to an IPv6 address would set IPV6_V6ONLY (__inet6_bind in net/ipv6/af_inet6.c).
	require.NoError(t, sockopt.BindPort(fd, netip.AddrPortFrom(local(t, fd).Addr(), 0)))
	require.True(t, sockopt.IsChosen(fd) && sockopt.SharesPort(fd))
	before, err := sockopt.Cookie(fd)
	require.NoError(t, err)
	require.NoError(t, sockopt.Renew(fd))
	after, err := sockopt.Cookie(fd)
	require.NoError(t, err)
	require.NotEqual(t, before, after)
	require.Equal(t, f.domain, option(t, fd, unix.SOL_SOCKET, unix.SO_DOMAIN))
	require.Equal(t, kind[0], option(t, fd, unix.SOL_SOCKET, unix.SO_TYPE))
	require.Equal(t, kind[1], option(t, fd, unix.SOL_SOCKET, unix.SO_PROTOCOL))
	if f.domain == unix.AF_INET6 {
		require.Equal(t, onlyIPv6, option(t, fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY))
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	require.NoError(t, err)
	require.NotZero(t, flags&unix.O_NONBLOCK)
	flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.Equal(t, unix.FD_CLOEXEC, flags)
	require.False(t, sockopt.IsChosen(fd) || sockopt.SharesPort(fd))
}
