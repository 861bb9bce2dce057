package sockdiag

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkDump measures a dump of the sockets towards one destination, with and without matching sockets (TCP in
// TIME_WAIT, UDP connected) and others towards other destinations. It needs the privilege to make a network namespace.
func BenchmarkDump(b *testing.B) {
	for _, c := range []struct {
		protocol         Protocol
		others, matching int
	}{
		{TCP, 0, 0},
		{TCP, 1000, 0},
		{TCP, 28_000, 0},
		{TCP, 100_000, 0},
		{TCP, 0, 28_000},
		{UDP, 0, 0},
		{UDP, 1000, 0},
		{UDP, 15_000, 0},
		{UDP, 0, 15_000},
	} {
		b.Run(fmt.Sprintf("%s/others=%d/matching=%d", c.protocol, c.others, c.matching), func(b *testing.B) {
			elsewhere(b, func() {
				fill := waits
				if c.protocol == UDP {
					fill = connected
				}
				dst := netip.MustParseAddrPort("127.0.0.1:2000")
				fill(b, dst, c.matching)
				for n := 0; n < c.others; n += 28_000 {
					fill(b, netip.AddrPortFrom(dst.Addr(), dst.Port()+1+uint16(n/28_000)), min(28_000, c.others-n))
				}
				b.ReportAllocs()
				for b.Loop() {
					found := 0
					for _, err := range (Query{Protocol: c.protocol, Remote: At(dst)}).All() {
						if err != nil {
							b.Fatal(err)
						}
						found++
					}
					if found != c.matching {
						b.Fatalf("%d sockets of %d", found, c.matching)
					}
				}
			})
		})
	}
}

// waits leaves n connections to dst in TIME_WAIT.
func waits(b *testing.B, dst netip.AddrPort, n int) {
	b.Helper()
	require.NoError(b, os.WriteFile("/proc/sys/net/ipv4/tcp_max_tw_buckets", []byte("200000"), 0))
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(b, err)
	defer func() { _ = unix.Close(l) }()
	at := &unix.SockaddrInet4{Addr: dst.Addr().As4(), Port: int(dst.Port())}
	require.NoError(b, unix.Bind(l, at))
	require.NoError(b, unix.Listen(l, 16))
	for port := range n {
		fd := bound(b, unix.SOCK_STREAM, 3000+port)
		require.NoError(b, unix.Connect(fd, at))
		a, _, err := unix.Accept(l)
		require.NoError(b, err)
		require.NoError(b, unix.Close(fd))
		require.NoError(b, unix.Close(a))
	}
}

// connected connects n UDP sockets to dst, which stay open until the benchmark ends.
func connected(b *testing.B, dst netip.AddrPort, n int) {
	b.Helper()
	for port := range n {
		fd := bound(b, unix.SOCK_DGRAM, 3000+port)
		b.Cleanup(func() { _ = unix.Close(fd) })
		require.NoError(b, unix.Connect(fd, &unix.SockaddrInet4{Addr: dst.Addr().As4(), Port: int(dst.Port())}))
	}
}

func bound(b *testing.B, kind, port int) (fd int) {
	b.Helper()
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	require.NoError(b, err)
	require.NoError(b, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	require.NoError(b, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}))
	return fd
}
