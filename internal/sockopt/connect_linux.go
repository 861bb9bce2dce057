package sockopt

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// BindPort binds the socket to local. The address may be unspecified.
func BindPort(fd int, local netip.AddrPort) error {
	return os.NewSyscallError("bind", unix.Bind(fd, sockaddr(local)))
}

// Connect makes a non-blocking socket begin to connect to remote, which must have the family of the socket. The later
// connect(2) of package net then waits for the result: it gets EALREADY, success, or the error (__inet_stream_connect
// in net/ipv4/af_inet.c).
func Connect(fd int, remote netip.AddrPort) error {
	err := unix.Connect(fd, sockaddr(remote))
	if errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EINTR) {
		return nil
	}
	return os.NewSyscallError("connect", err)
}

// Local returns the local end of the socket.
func Local(fd int) (netip.AddrPort, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr), uint16(name.Port)), nil
	}
	return netip.AddrPort{}, fmt.Errorf("getsockname: the socket has no IP address: %T", name)
}

// Cookie returns the number of the socket, which no other socket ever has. sock_diag names sockets by it.
func Cookie(fd int) (uint64, error) {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	return cookie, os.NewSyscallError("getsockopt SO_COOKIE", err)
}

// IsTCP reports whether the socket is plain TCP, not Multipath TCP.
func IsTCP(fd int) bool {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return err == nil && protocol == unix.IPPROTO_TCP
}

// Renew closes the socket of fd without a TIME_WAIT, and opens a new socket of the same kind under the same number, as
// package net does. No poller may know fd yet.
func Renew(fd int) error {
	var kind [3]int
	for i, option := range []int{unix.SO_DOMAIN, unix.SO_TYPE, unix.SO_PROTOCOL} {
		value, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
		if err != nil {
			return os.NewSyscallError("getsockopt", err)
		}
		kind[i] = value
	}
	fresh, err := unix.Socket(kind[0], kind[1]|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, kind[2])
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fresh)
	if kind[0] == unix.AF_INET6 {
		only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err != nil {
			return os.NewSyscallError("getsockopt IPV6_V6ONLY", err)
		}
		if err := set("IPV6_V6ONLY", fresh, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return err
		}
	}
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	return os.NewSyscallError("dup3", unix.Dup3(fresh, fd, unix.O_CLOEXEC))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if ip := a.Addr(); !ip.Is4() {
		return &unix.SockaddrInet6{Addr: ip.As16(), Port: int(a.Port()), ZoneId: zoneID(ip.Zone())}
	}
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}
