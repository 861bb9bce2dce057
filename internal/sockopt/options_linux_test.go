package sockopt_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockopt"
)

func TestShareBindLetsOthersBindThePort(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	eachFamily(t, func(t *testing.T, f family) {
		a, b := f.tcp(t), f.tcp(t)
		at := netip.AddrPortFrom(f.loopback, 4000)
		require.False(t, sockopt.SharesPort(a))
		require.NoError(t, sockopt.ShareBind(a))
		require.Equal(t, 1, option(t, a, unix.SOL_SOCKET, unix.SO_REUSEADDR))
		require.True(t, sockopt.SharesPort(a))
		require.NoError(t, sockopt.BindPort(a, at))
		require.ErrorIs(t, sockopt.BindPort(b, at), unix.EADDRINUSE)
		require.NoError(t, sockopt.ShareBind(b))
		require.NoError(t, sockopt.BindPort(b, at))
		require.Equal(t, at, local(t, b))

		require.NoError(t, sockopt.KeepPort(a))
		require.Zero(t, option(t, a, unix.SOL_SOCKET, unix.SO_REUSEADDR))
		require.False(t, sockopt.SharesPort(a))
		require.NoError(t, unix.SetsockoptInt(a, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		require.True(t, sockopt.SharesPort(a))
	})
	require.False(t, sockopt.SharesPort(closed(t)))
}

func TestKeepPortKeepsOthersOffThePortOfADatagramSocket(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	eachFamily(t, func(t *testing.T, f family) {
		a, b := f.socket(t, unix.SOCK_DGRAM, 0), f.socket(t, unix.SOCK_DGRAM, 0)
		at := netip.AddrPortFrom(f.loopback, 4000)
		require.NoError(t, sockopt.ShareBind(a))
		require.NoError(t, sockopt.ShareBind(b))
		require.NoError(t, sockopt.BindPort(a, at))
		require.NoError(t, sockopt.KeepPort(a))
		require.ErrorIs(t, sockopt.BindPort(b, at), unix.EADDRINUSE)
	})
}

func TestFreeBindBindsToAnAddressThatNoInterfaceHas(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_nonlocal_bind=0") {
		return
	}
	foreign := map[string]netip.Addr{
		"IPv4": netip.MustParseAddr("192.0.2.7"), "IPv6": netip.MustParseAddr("2001:db8::7"),
	}
	eachFamily(t, func(t *testing.T, f family) {
		fd, at := f.tcp(t), netip.AddrPortFrom(foreign[f.name], 4000)
		require.ErrorIs(t, sockopt.BindPort(fd, at), unix.EADDRNOTAVAIL)
		require.NoError(t, sockopt.FreeBind(fd))
		require.Equal(t, 1, option(t, fd, unix.IPPROTO_IP, unix.IP_FREEBIND))
		require.NoError(t, sockopt.BindPort(fd, at))
		require.Equal(t, at, local(t, fd))
	})
	require.ErrorIs(t, sockopt.FreeBind(closed(t)), unix.EBADF)
}

func TestOnlyIPv6LeavesThePortToIPv4(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	v4, v6 := families[0], families[1]
	for _, only := range []bool{false, true} {
		six, four := v6.tcp(t), v4.tcp(t)
		require.NoError(t, unix.SetsockoptInt(six, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0))
		if only {
			require.NoError(t, sockopt.OnlyIPv6(six))
			require.Equal(t, 1, option(t, six, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY))
		}
		port := uint16(4000)
		require.NoError(t, sockopt.BindPort(six, netip.AddrPortFrom(netip.IPv6Unspecified(), port)))
		require.NoError(t, unix.Listen(six, 1))
		err := sockopt.BindPort(four, netip.AddrPortFrom(netip.IPv4Unspecified(), port))
		if only {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, unix.EADDRINUSE)
		}
		require.NoError(t, unix.Close(six))
	}
	require.ErrorIs(t, sockopt.OnlyIPv6(v4.tcp(t)), unix.ENOPROTOOPT)
}

func TestPathOfIsTheDeviceAndTheMark(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	eachFamily(t, func(t *testing.T, f family) {
		fd := f.tcp(t)
		require.Zero(t, sockopt.PathOf(fd))
		require.NoError(t, unix.BindToDevice(fd, "lo"))
		require.Equal(t, sockopt.Path{Device: "lo"}, sockopt.PathOf(fd))
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 7)
		if errors.Is(err, unix.EPERM) {
			t.Skipf("no mark: %v", err)
		}
		require.NoError(t, err)
		require.Equal(t, sockopt.Path{Device: "lo", Mark: 7}, sockopt.PathOf(fd))
	})
	require.Zero(t, sockopt.PathOf(closed(t)))
}

func TestIsChosenOnceAnEndIsBoundConnectedOrNamed(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	eachFamily(t, func(t *testing.T, f family) {
		_, at := f.listen(t)
		for name, choose := range map[string]func(fd int) error{
			"an address": func(fd int) error { return sockopt.BindAddress(fd, f.loopback) },
			"a port": func(fd int) error {
				unspecified := netip.IPv4Unspecified()
				if f.domain == unix.AF_INET6 {
					unspecified = netip.IPv6Unspecified()
				}
				return sockopt.BindPort(fd, netip.AddrPortFrom(unspecified, 4000))
			},
			"connected": func(fd int) error { return sockopt.Connect(fd, at) },
			"a range":   func(fd int) error { return sockopt.OnePort(fd, 40000) },
		} {
			t.Run(name, func(t *testing.T) {
				fd := f.tcp(t)
				require.False(t, sockopt.IsChosen(fd))
				err := choose(fd)
				if errors.Is(err, unix.ENOPROTOOPT) {
					t.Skipf("an older kernel: %v", err)
				}
				require.NoError(t, err)
				require.True(t, sockopt.IsChosen(fd))
			})
		}
	})
	require.False(t, sockopt.IsChosen(closed(t)))
}

func TestCookieNamesOneSocket(t *testing.T) {
	seen := map[uint64]bool{}
	eachFamily(t, func(t *testing.T, f family) {
		for range 3 {
			fd := f.tcp(t)
			cookie, err := sockopt.Cookie(fd)
			if errors.Is(err, unix.ENOPROTOOPT) {
				t.Skipf("an older kernel: %v", err)
			}
			require.NoError(t, err)
			again, err := sockopt.Cookie(fd)
			require.NoError(t, err)
			require.Equal(t, cookie, again)
			require.False(t, seen[cookie])
			seen[cookie] = true
		}
	})
	_, err := sockopt.Cookie(closed(t))
	require.ErrorIs(t, err, unix.EBADF)
}

func TestOnlyPlainTCPIsTCP(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		require.True(t, sockopt.IsTCP(f.tcp(t)))
		require.False(t, sockopt.IsTCP(f.socket(t, unix.SOCK_DGRAM, 0)))
		t.Run("multipath", func(t *testing.T) {
			require.False(t, sockopt.IsTCP(f.socket(t, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)))
		})
	})
	require.False(t, sockopt.IsTCP(closed(t)))
}

func TestLocalIsTheLocalEnd(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		fd := f.tcp(t)
		at := local(t, fd)
		require.True(t, at.Addr().IsUnspecified() && at.Port() == 0 && at.Addr().Is4() == f.loopback.Is4())
		require.NoError(t, sockopt.BindPort(fd, netip.AddrPortFrom(f.loopback, 0)))
		at = local(t, fd)
		require.Equal(t, f.loopback, at.Addr())
		require.NotZero(t, at.Port())
	})
	_, err := sockopt.Local(closed(t))
	require.ErrorIs(t, err, unix.EBADF)
	unnamed, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(unnamed)
	_, err = sockopt.Local(unnamed)
	require.ErrorContains(t, err, "the socket has no IP address")
}

func TestKernelTellsWhatItCanDo(t *testing.T) {
	can, err := sockopt.Kernel()
	require.NoError(t, err)
	fd := families[0].tcp(t)
	require.Equal(t, can.Namespace, sockopt.Namespace(fd))
	require.True(t, can.Names)
	if can.PortRange {
		require.NoError(t, sockopt.OnePort(fd, 40000))
	}
	require.Zero(t, sockopt.Namespace(closed(t)))
}

func TestSourceIsWhatTheKernelChooses(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	eachFamily(t, func(t *testing.T, f family) {
		for _, p := range []sockopt.Path{{}, {Device: "lo"}} {
			got, err := sockopt.Source(netip.AddrPortFrom(f.loopback, 9), p)
			require.NoError(t, err)
			require.Equal(t, f.loopback, got)
		}
	})
	_, err := sockopt.Source(netip.MustParseAddrPort("192.0.2.1:9"), sockopt.Path{})
	require.ErrorIs(t, err, unix.ENETUNREACH)
	_, err = sockopt.Source(netip.MustParseAddrPort("127.0.0.1:9"), sockopt.Path{Device: "none"})
	require.ErrorIs(t, err, unix.ENODEV)
	require.Equal(t, 1, sockopt.Index("lo"))
	require.Equal(t, 77, sockopt.Index("77"))
	require.Zero(t, sockopt.Index("none"))
}

func TestSourceOfLeavesADatagramSocketAsItWas(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	eachFamily(t, func(t *testing.T, f family) {
		for _, p := range []sockopt.Path{{}, {Device: "lo"}} {
			fd := f.socket(t, unix.SOCK_DGRAM, 0)
			if p.Device != "" {
				require.NoError(t, unix.BindToDevice(fd, p.Device))
			}
			unspecified := local(t, fd).Addr()
			require.NoError(t, sockopt.BindPort(fd, netip.AddrPortFrom(unspecified, 4000)))
			got, err := sockopt.SourceOf(fd, f.loopback, p)
			require.NoError(t, err)
			require.Equal(t, netip.AddrPortFrom(f.loopback, 4000), got)
			require.Equal(t, netip.AddrPortFrom(unspecified, 4000), local(t, fd))
			require.Equal(t, p, sockopt.PathOf(fd))
			_, err = unix.Getpeername(fd)
			require.ErrorIs(t, err, unix.ENOTCONN)
			require.NoError(t, unix.Close(fd))
		}
	})
}

func TestDrainDropsWhatIsQueued(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		fd, peer := f.socket(t, unix.SOCK_DGRAM, 0), f.socket(t, unix.SOCK_DGRAM, 0)
		require.NoError(t, sockopt.BindPort(fd, netip.AddrPortFrom(f.loopback, 0)))
		require.NoError(t, sockopt.Connect(peer, local(t, fd)))
		for range 20 {
			_, err := unix.Write(peer, []byte("late"))
			require.NoError(t, err)
		}
		await(t, fd, unix.POLLIN)
		sockopt.Drain(uintptr(fd))
		_, _, err := unix.Recvfrom(fd, nil, unix.MSG_DONTWAIT)
		require.ErrorIs(t, err, unix.EAGAIN)
	})
	sockopt.Drain(uintptr(closed(t)))
}
