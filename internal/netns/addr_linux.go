package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// AddAddr adds an address to the loopback interface of the private network, as `ip addr add PREFIX dev lo` does. The
// address works at once. With IPv4 every address of the prefix is then local, with IPv6 only the one address.
//
// It fails a test that is not inside [Isolate]. It skips a test that adds an IPv6 address on a host without IPv6.
func AddAddr(t *testing.T, prefix netip.Prefix) {
	t.Helper()
	add(t, prefix, func(prefix netip.Prefix, index int) error {
		err := request(newAddr(prefix, index))
		if err == nil && prefix.Addr().Is6() {
			err = awaitAddr(prefix.Addr())
		}
		return err
	})
}

// AddRoute makes every address of a prefix local without adding it to an interface, as `ip route add local PREFIX dev
// lo` does. It fails and skips a test as AddAddr does.
func AddRoute(t *testing.T, prefix netip.Prefix) {
	t.Helper()
	add(t, prefix, func(prefix netip.Prefix, index int) error { return request(newRoute(prefix, index)) })
}

func add(t *testing.T, prefix netip.Prefix, to func(prefix netip.Prefix, index int) error) {
	t.Helper()
	if os.Getenv(variable) == "" {
		t.Fatalf("netns: cannot change the host's network: call Isolate first: add %s", prefix)
	}
	if !prefix.IsValid() {
		t.Fatal("netns: the address to add is not valid")
	}
	lo, err := net.InterfaceByName("lo")
	if err == nil {
		err = to(prefix, lo.Index)
	}
	switch {
	case err == nil:
	case prefix.Addr().Is6() && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP)):
		t.Skipf("netns: cannot add %s to lo: IPv6 is disabled: %v", prefix, err)
	default:
		t.Fatalf("netns: cannot add %s to lo: %v", prefix, err)
	}
}

// request sends one message (rtnetlink(7)) and reads the kernel's answer.
func request(message []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return os.NewSyscallError("recvfrom", err)
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("the kernel's answer is not an acknowledgement")
	}
	if errno := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); errno != 0 {
		return unix.Errno(-errno)
	}
	return nil
}

// awaitAddr waits until a datagram to the address arrives. The kernel installs the route of an IPv6 prefix at once, and
// the route of the address later, from a work queue. With 16 busy processes on 2 CPUs, one connect in eight came
// between the two, and failed a second later with "network is unreachable".
func awaitAddr(addr netip.Addr) error {
	if addr.IsLinkLocalUnicast() {
		addr = addr.WithZone("lo")
	}
	c, err := net.ListenUDP("udp6", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	self := c.LocalAddr().(*net.UDPAddr).AddrPort()
	for wait := time.Millisecond; wait < 5*time.Second; wait *= 2 {
		_, sendErr := c.WriteToUDPAddrPort([]byte{1}, self)
		_ = c.SetReadDeadline(time.Now().Add(wait))
		_, _, readErr := c.ReadFromUDPAddrPort(make([]byte, 1))
		if readErr == nil {
			return nil
		}
		err = errors.Join(sendErr, readErr)
	}
	return fmt.Errorf("the address was added, but cannot be reached after eight seconds: %w", err)
}

// newAddr encodes RTM_NEWADDR: a struct ifaddrmsg, and the address as IFA_LOCAL and IFA_ADDRESS.
func newAddr(prefix netip.Prefix, index int) []byte {
	b := []byte{family(prefix.Addr()), byte(prefix.Bits()), unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE}
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	addr := prefix.Addr().AsSlice()
	return newMessage(unix.RTM_NEWADDR, b, attr{unix.IFA_LOCAL, addr}, attr{unix.IFA_ADDRESS, addr})
}

// newRoute encodes RTM_NEWROUTE: a struct rtmsg, the prefix as RTA_DST, and the interface as RTA_OIF.
func newRoute(prefix netip.Prefix, index int) []byte {
	b := []byte{
		family(prefix.Addr()), byte(prefix.Bits()), 0, 0,
		unix.RT_TABLE_LOCAL, unix.RTPROT_STATIC, unix.RT_SCOPE_HOST, unix.RTN_LOCAL,
		0, 0, 0, 0,
	}
	return newMessage(unix.RTM_NEWROUTE, b,
		attr{unix.RTA_DST, prefix.Masked().Addr().AsSlice()},
		attr{unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(index))})
}

// newDefaultRoute encodes RTM_NEWROUTE: a struct rtmsg, and the gateway as RTA_GATEWAY.
func newDefaultRoute(gateway netip.Addr) []byte {
	b := []byte{
		family(gateway), 0, 0, 0,
		unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST,
		0, 0, 0, 0,
	}
	return newMessage(unix.RTM_NEWROUTE, b, attr{unix.RTA_GATEWAY, gateway.AsSlice()})
}

func family(addr netip.Addr) byte {
	if addr.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// attr is a struct rtattr. The length of its value is a multiple of 4 bytes.
type attr struct {
	kind  uint16
	value []byte
}

// newMessage encodes a request to create something that does not exist yet.
func newMessage(kind uint16, fixed []byte, attrs ...attr) []byte {
	size := unix.SizeofNlMsghdr + len(fixed)
	for _, a := range attrs {
		size += unix.SizeofRtAttr + len(a.value)
	}
	b := make([]byte, 0, size)
	b = binary.NativeEndian.AppendUint32(b, uint32(size))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	b = append(b, make([]byte, 8)...) // sequence number and sender
	b = append(b, fixed...)
	for _, a := range attrs {
		b = appendAttr(b, a)
	}
	return b
}

func appendAttr(b []byte, a attr) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(a.value)))
	b = binary.NativeEndian.AppendUint16(b, a.kind)
	return append(b, a.value...)
}
