package sockopt

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// BindPort binds the socket to local, whose address may be the unspecified one.
func BindPort(fd int, local netip.AddrPort) error {
	return os.NewSyscallError("bind", unix.Bind(fd, sockaddr(local)))
}

// Connect has a non-blocking socket begin to connect to remote, whose family must be the socket's. A second
// connect(2), package net's, then waits for it: it meets EALREADY, success, or the error (__inet_stream_connect in
// net/ipv4/af_inet.c).
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
	return netip.AddrPort{}, fmt.Errorf("getsockname: %T is no address of TCP", name)
}

// Cookie returns the number that the kernel gave to this socket and gives to no other, and by which it names the socket
// in sock_diag.
func Cookie(fd int) (uint64, error) {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	return cookie, os.NewSyscallError("getsockopt SO_COOKIE", err)
}

// IsTCP reports whether the socket is plain TCP, and not Multipath TCP.
func IsTCP(fd int) bool {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return err == nil && protocol == unix.IPPROTO_TCP
}

// Renew closes the socket behind fd, which leaves no TIME_WAIT, and puts a fresh one of the same kind there, as package
// net makes them. fd must not be known to a poller yet.
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
