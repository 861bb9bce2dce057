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

// Supported reports whether exact local ports are to be had on this system.
const Supported = true

// Kernel asks the kernel what it can do, in the network namespace of the calling thread. It fails if there is no
// socket to ask.
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

// keepsPortRange sets a range and reads it back: gVisor accepts IP_LOCAL_PORT_RANGE and ignores it, and its
// getsockopt says ENOPROTOOPT.
func keepsPortRange(fd int) bool {
	var asked uint32 = 40001<<16 | 40000
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, int(int32(asked))); err != nil {
		return false
	}
	kept, err := unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE)
	return err == nil && uint32(kept) == asked
}

// Namespace returns the number of the network namespace that the socket is in, 0 if the kernel does not tell.
func Namespace(fd int) uint64 {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return cookie
}

// OnePort makes the kernel choose port, and no other, when the socket connects. The kernel ignores a port outside
// net.ipv4.ip_local_port_range without a word.
func OnePort(fd int, port uint16) error {
	return set("IP_LOCAL_PORT_RANGE", fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, int(port)<<16|int(port))
}

// BindAddress binds the socket to ip, and leaves the choice of the port to connect.
func BindAddress(fd int, ip netip.Addr) error {
	if err := set("IP_BIND_ADDRESS_NO_PORT", fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	if ip.Is4() {
		return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrInet4{Addr: ip.As4()}))
	}
	return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrInet6{Addr: ip.As16(), ZoneId: zoneID(ip.Zone())}))
}

// FreeBind lets the socket be bound to an address that no interface has, and makes it transparent if the process may
// do that. Both options do for a socket of either family what their IPv6 twins do (do_ip_setsockopt in
// net/ipv4/ip_sockglue.c).
func FreeBind(fd int) error {
	if err := set("IP_FREEBIND", fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1); err != nil {
		return err
	}
	if err := set("IP_TRANSPARENT", fd, unix.IPPROTO_IP, unix.IP_TRANSPARENT, 1); err != nil && !errors.Is(err, unix.EPERM) {
		return err
	}
	return nil
}

// ShareBind lets several sockets that all ask for it bind one port.
func ShareBind(fd int) error {
	return set("SO_REUSEADDR", fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
}

// SharesPort reports whether somebody set SO_REUSEADDR or SO_REUSEPORT, so that other sockets may bind the port.
func SharesPort(fd int) bool {
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option); err == nil && on != 0 {
			return true
		}
	}
	return false
}

// SourceOf returns the local end that a UDP socket, bound to a port alone, would have if it were connected to an
// address. It connects the socket to port 0 there, which sends nothing and from which nothing comes, and undoes that.
// The kernel then forgets the device that the socket was bound to (__udp_disconnect in net/ipv4/udp.c), so it is
// bound there again.
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

// IsChosen reports whether somebody has chosen a local end for the socket: bound it, connected it, or named a range
// of ports.
func IsChosen(fd int) bool {
	if local, err := Local(fd); err == nil && (local.Port() != 0 || !local.Addr().IsUnspecified()) {
		return true
	}
	ports, err := unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE)
	return err == nil && ports != 0
}

// OnlyIPv6 keeps an IPv6 socket that is bound to no address from taking the port of IPv4 as well.
func OnlyIPv6(fd int) error {
	return set("IPV6_V6ONLY", fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
}

// KeepPort undoes ShareBind, whoever asked for it: no other socket then binds the port of this one.
func KeepPort(fd int) error {
	return set("SO_REUSEADDR", fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
}

// mostQueued bounds how many datagrams Drain drops. By default the kernel queues some 280. It queues in order, so
// that what is left comes from whom the socket is connected to, and may come without an end.
const mostQueued = 4096

// Drain drops the datagrams that are queued at a socket.
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
	var info unix.TCPInfo // not by GetsockoptTCPInfo, which puts it on the heap
	size := uint32(unsafe.Offsetof(info.Rttvar))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return State{}, os.NewSyscallError("getsockopt TCP_INFO", errno)
	}
	s := State{
		TCP: info.State, Timestamps: info.Options&optionTimestamps != 0, RTT: time.Duration(info.Rtt) * time.Microsecond,
	}
	if s.TCP == CloseWait || s.TCP == LastAck {
		return s, nil
	}
	// SO_LINGER cut off after its first int, whether it is on, says too little: it is two ints.
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

// Index returns the index of the device that a name or a zone names, 0 if there is none.
func Index(device string) int { return int(zoneID(device)) }

// device returns the name of the device that the socket is bound to, "" if it is bound to none.
func device(fd int) string {
	name, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	if err != nil {
		return ""
	}
	return name
}

// Source returns the address that the kernel chooses for a socket with this path that connects to remote: that of a
// UDP socket, which sends nothing. If the kernel has none, the error Is EADDRNOTAVAIL, or says that there is no
// route.
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

// disconnect makes a connected UDP socket one that is bound to its port alone, if that is how it was bound.
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

// zoneID returns the index of the interface that a zone names, 0 if there is none.
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
