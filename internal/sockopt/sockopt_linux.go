package sockopt

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Supported reports whether exact local ports are to be had on this system.
const Supported = true

// Kernel asks the kernel what it can do, in the network namespace of the calling thread. It fails if there is no socket to ask.
func Kernel() (Abilities, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return Abilities{}, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return Abilities{
		PortRange: unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, 0) == nil,
		Namespace: Namespace(fd),
	}, nil
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

// FreeBind lets the socket be bound to an address that no interface has, and makes it transparent if the process may do that.
// Both options do for a socket of either family what their IPv6 twins do (do_ip_setsockopt in net/ipv4/ip_sockglue.c).
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

// OnlyIPv6 keeps an IPv6 socket that is bound to no address from taking the port of IPv4 as well.
func OnlyIPv6(fd int) error {
	return set("IPV6_V6ONLY", fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
}

// KeepPort undoes ShareBind, whoever asked for it: no other socket then binds the port of this one.
func KeepPort(fd int) error {
	return set("SO_REUSEADDR", fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
}

// mostQueued bounds how many datagrams Drain drops. By default the kernel queues some 280. It queues in order, so that what
// is left comes from whom the socket is connected to, and may come without an end.
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
	// TCP_INFO cut off after 4 bytes, of which the state is the first.
	info, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return State{}, os.NewSyscallError("getsockopt TCP_INFO", err)
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(info))
	if b[0] == CloseWait || b[0] == LastAck {
		return State{TCP: b[0]}, nil
	}
	// SO_LINGER cut off after its first int, whether it is on, says too little: it is two ints.
	linger, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_LINGER)
	if err != nil {
		return State{}, os.NewSyscallError("getsockopt SO_LINGER", err)
	}
	var l [8]byte
	binary.NativeEndian.PutUint64(l[:], linger)
	on, seconds := binary.NativeEndian.Uint32(l[:4]), binary.NativeEndian.Uint32(l[4:])
	s := State{TCP: b[0], Abort: on != 0 && seconds == 0}
	if s.TCP != Close && !s.Abort {
		unread, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
		s.Unread = err == nil && unread > 0
	}
	if s.TCP == Close || s.Unread {
		s.OnDevice, s.Namespace = OnDevice(fd), Namespace(fd)
	}
	return s, nil
}

// OnDevice reports whether the socket is bound to a device.
func OnDevice(fd int) bool {
	name, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	return err == nil && name != ""
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
