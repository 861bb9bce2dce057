package dialer_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// sysctl sets a sysctl of this network namespace, and makes the dialer read it again.
func sysctl(t testing.TB, name, value string) {
	t.Helper()
	quietSysctl(t, name, value)
	dialer.ForgetFacts()
}

// quietSysctl sets a sysctl without telling the dialer.
func quietSysctl(t testing.TB, name, value string) {
	t.Helper()
	require.NoError(t, os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0))
}

func sockaddr(a netip.AddrPort) (family int, sa unix.Sockaddr) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// rawSocket returns a TCP socket that is closed when the test ends.
func rawSocket(t testing.TB, family int) int {
	t.Helper()
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// blackhole returns an address that does not answer: a listener with a full queue drops what arrives. The port may be
// 0.
func blackhole(t testing.TB, address string) string {
	t.Helper()
	family, sa := sockaddr(netip.MustParseAddrPort(address))
	fd := rawSocket(t, family)
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	require.NoError(t, unix.Bind(fd, sa))
	require.NoError(t, unix.Listen(fd, 0))
	sa, err := unix.Getsockname(fd)
	require.NoError(t, err)
	for i := range 3 { // from ports that no test dials from
		filler := rawSocket(t, family)
		require.NoError(t, unix.SetsockoptInt(filler, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		_, from := sockaddr(netip.AddrPortFrom(netip.MustParseAddrPort(address).Addr(), uint16(1100+i)))
		require.NoError(t, unix.Bind(filler, from))
		require.ErrorIs(t, unix.Connect(filler, sa), unix.EINPROGRESS)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)).String()
	}
	return ""
}

// openFiles returns what the descriptors of the process refer to.
func openFiles(t testing.TB) []string {
	t.Helper()
	sockdiag.CloseIdle() // idle netlink sockets do not belong to a dial
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	var files []string
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil { // not the directory itself
			files = append(files, to)
		}
	}
	return files
}

// openSockets counts the open sockets of the process.
func openSockets(t testing.TB) int {
	t.Helper()
	n := 0
	for _, f := range openFiles(t) {
		if strings.HasPrefix(f, "socket:") {
			n++
		}
	}
	return n
}

// kernelState returns the state of tu in the kernel; 0 if there is none. If tu has no source address, it takes that of
// to.
func kernelState(t testing.TB, tu tuple.Tuple, to *peer) sockdiag.State {
	t.Helper()
	src := tu.Src()
	if src.Addr().IsUnspecified() {
		src = netip.AddrPortFrom(to.addrPort().Addr(), src.Port())
	}
	s, found, err := sockdiag.Lookup(sockdiag.TCP, src, tu.Dst())
	require.NoError(t, err)
	if !found {
		return 0
	}
	return s.State
}

func awaitTimeWait(t testing.TB, tu tuple.Tuple, to *peer) {
	t.Helper()
	require.Eventually(t, func() bool { return kernelState(t, tu, to) == sockdiag.TimeWait }, soon, time.Millisecond)
}
