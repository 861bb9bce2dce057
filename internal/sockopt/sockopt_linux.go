package sockopt

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Supported says whether exact local ports work on this system.
const Supported = true

// Kernel asks the kernel what it can do, in the network namespace of the calling thread. It fails if it cannot open a
// socket to ask with.
func Kernel() (Abilities, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return Abilities{}, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	_, err = unix.Getsockname(fd)
	return Abilities{PortRange: keepsPortRange(fd), Names: err == nil, Namespace: Namespace(fd)}, nil
}

// keepsPortRange sets a range and reads it back, because gVisor accepts IP_LOCAL_PORT_RANGE and ignores it. The
// getsockopt of gVisor fails with ENOPROTOOPT.
func keepsPortRange(fd int) bool {
	var asked uint32 = 40001<<16 | 40000
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, int(int32(asked))); err != nil {
		return false
	}
	kept, err := unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE)
	return err == nil && uint32(kept) == asked
}

// Namespace returns the number of the socket's network namespace, or 0 if the kernel does not support SO_NETNS_COOKIE.
func Namespace(fd int) uint64 {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return cookie
}

// OnePort makes the kernel choose exactly this port when the socket connects. The kernel silently ignores a port
// outside net.ipv4.ip_local_port_range.
func OnePort(fd int, port uint16) error {
	return set("IP_LOCAL_PORT_RANGE", fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, int(port)<<16|int(port))
}

// BindAddress binds the socket to ip without a port. The kernel then chooses the port when the socket connects.
func BindAddress(fd int, ip netip.Addr) error {
	if err := set("IP_BIND_ADDRESS_NO_PORT", fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	if ip.Is4() {
		return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrInet4{Addr: ip.As4()}))
	}
	return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrInet6{Addr: ip.As16(), ZoneId: zoneID(ip.Zone())}))
}

// FreeBind allows the socket to bind an address that no interface has. It also makes the socket transparent if the
// process has the privilege. Both options work for IPv6 sockets too, like their IPv6 counterparts (do_ip_setsockopt in
// net/ipv4/ip_sockglue.c).
func FreeBind(fd int) error {
	if err := set("IP_FREEBIND", fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1); err != nil {
		return err
	}
	if err := set("IP_TRANSPARENT", fd, unix.IPPROTO_IP, unix.IP_TRANSPARENT, 1); err != nil &&
		!errors.Is(err, unix.EPERM) {
		return err
	}
	return nil
}

// ShareBind allows the socket to bind a port together with other sockets that allow it too.
func ShareBind(fd int) error {
	return set("SO_REUSEADDR", fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
}

// SharesPort reports whether SO_REUSEADDR or SO_REUSEPORT is set, so that other sockets may bind the port.
func SharesPort(fd int) bool {
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option); err == nil && on != 0 {
			return true
		}
	}
	return false
}

// SourceOf returns the local end that a UDP socket would have if it were connected to an address. The socket must be
// bound to a port without an address. SourceOf connects it to port 0 of the address, which sends nothing, and
// disconnects it. The kernel then forgets the device of the socket (__udp_disconnect in net/ipv4/udp.c), so SourceOf
// binds the socket to the device again.
func SourceOf(fd int, remote netip.Addr, p Path) (netip.AddrPort, error) {
	if err := unix.Connect(fd, sockaddr(netip.AddrPortFrom(remote, 0))); err != nil {
		return netip.AddrPort{}, os.NewSyscallError("connect", err)
	}
	local, err := Local(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if err := disconnect(fd); err != nil || p.Device == "" {
		return local, err
	}
	return local, os.NewSyscallError("setsockopt SO_BINDTODEVICE", unix.BindToDevice(fd, p.Device))
}

// IsChosen reports whether the socket has a local end already: it is bound or connected, or has a range of ports.
func IsChosen(fd int) bool {
	if local, err := Local(fd); err == nil && (local.Port() != 0 || !local.Addr().IsUnspecified()) {
		return true
	}
	ports, err := unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE)
	return err == nil && ports != 0
}

// OnlyIPv6 makes an IPv6 socket that is bound to no address take its port for IPv6 only, not for IPv4 as well.
func OnlyIPv6(fd int) error {
	return set("IPV6_V6ONLY", fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
}

// KeepPort clears SO_REUSEADDR, so that no other socket can bind the port of this one.
func KeepPort(fd int) error {
	return set("SO_REUSEADDR", fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
}

// mostQueued is how many datagrams Drain drops at most. By default the kernel queues about 280. The queue is in order,
// so datagrams after these come from the connected peer, which may send without end.
const mostQueued = 4096

// Drain drops the datagrams in the receive queue of a socket.
func Drain(fd uintptr) {
	for range mostQueued {
		_, _, err := unix.Recvfrom(int(fd), nil, unix.MSG_DONTWAIT)
		if err == unix.EAGAIN || err == unix.EBADF || err == unix.ENOTSOCK {
			return
		}
	}
}

// Read returns the state of a TCP socket.
func Read(fd int) (State, error) {
	var info unix.TCPInfo // GetsockoptTCPInfo would put it on the heap
	size := uint32(unsafe.Offsetof(info.Rttvar))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return State{}, os.NewSyscallError("getsockopt TCP_INFO", errno)
	}
	s := State{
		TCP:        info.State,
		Timestamps: info.Options&optionTimestamps != 0,
		RTT:        time.Duration(info.Rtt) * time.Microsecond,
	}
	if s.TCP == CloseWait || s.TCP == LastAck {
		return s, nil
	}
	// SO_LINGER is two ints: on or off, and the seconds. Reading one int would not return the seconds.
	linger, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_LINGER)
	if err != nil {
		return State{}, os.NewSyscallError("getsockopt SO_LINGER", err)
	}
	var l [8]byte
	binary.NativeEndian.PutUint64(l[:], linger)
	on, seconds := binary.NativeEndian.Uint32(l[:4]), binary.NativeEndian.Uint32(l[4:])
	s.Abort = on != 0 && seconds == 0
	if s.TCP != Close && !s.Abort {
		unread, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
		s.Unread = err == nil && unread > 0
	}
	if s.TCP == Close || s.Unread {
		s.Path, s.Namespace = PathOf(fd), Namespace(fd)
	}
	return s, nil
}

// optionTimestamps is TCPI_OPT_TIMESTAMPS of include/uapi/linux/tcp.h.
const optionTimestamps = 1

// PathOf returns the path of the socket.
func PathOf(fd int) Path {
	p := Path{Device: device(fd)}
	p.Mark, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK)
	return p
}

// Index returns the index of the device with this name or zone, or 0 if there is none.
func Index(device string) int { return int(zoneID(device)) }

// device returns the name of the device that the socket is bound to, or "" if it is bound to none.
func device(fd int) string {
	name, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	if err != nil {
		return ""
	}
	return name
}

// Source returns the address that the kernel chooses for a socket with this path that connects to remote. It connects a
// UDP socket to find out, which sends nothing. If the kernel has no address, the error Is EADDRNOTAVAIL, or says that
// there is no route.
func Source(remote netip.AddrPort, p Path) (netip.Addr, error) {
	family := unix.AF_INET
	if remote.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if p.Device != "" {
		if err := unix.BindToDevice(fd, p.Device); err != nil {
			return netip.Addr{}, os.NewSyscallError("setsockopt SO_BINDTODEVICE", err)
		}
	}
	if p.Mark != 0 {
		if err := set("SO_MARK", fd, unix.SOL_SOCKET, unix.SO_MARK, p.Mark); err != nil {
			return netip.Addr{}, err
		}
	}
	if err := unix.Connect(fd, sockaddr(remote)); err != nil {
		return netip.Addr{}, os.NewSyscallError("connect", err)
	}
	local, err := Local(fd)
	return local.Addr(), err
}

// disconnect undoes the connect of a UDP socket. A socket that was bound to a port without an address is so again.
func disconnect(fd int) error {
	unspec := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspec)), unsafe.Sizeof(unspec))
	if errno != 0 {
		return os.NewSyscallError("connect", errno)
	}
	return nil
}

func set(name string, fd, level, option, value int) error {
	if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
		return os.NewSyscallError("setsockopt "+name, err)
	}
	return nil
}

// zoneID returns the index of the interface of a zone, or 0 if there is none.
func zoneID(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if ifi, err := net.InterfaceByName(zone); err == nil {
		return uint32(ifi.Index)
	}
	index, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(index)
}
