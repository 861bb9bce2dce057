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

// AddAddr adds an address to the loopback interface of the private network, as
// `ip addr add PREFIX dev lo` does; it can be used at once. With IPv4 the host then
// answers to every address of the prefix, with IPv6 to the one address.
//
// It fails a test that is not inside [Isolate], and skips one on a host without
// IPv6 that adds an IPv6 address.
func AddAddr(t *testing.T, prefix netip.Prefix) {
	t.Helper()
	if os.Getenv(variable) == "" {
		t.Fatalf("netns: %s would be added to the host's own network: call Isolate first", prefix)
	}
	if !prefix.IsValid() {
		t.Fatal("netns: the address to add is not valid")
	}
	err := addAddr(prefix)
	if err == nil && prefix.Addr().Is6() {
		err = awaitAddr(prefix.Addr())
	}
	switch {
	case err == nil:
	case prefix.Addr().Is6() && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP)):
		t.Skipf("netns: %s cannot be added, IPv6 is disabled: %v", prefix, err)
	default:
		t.Fatalf("netns: add %s to lo: %v", prefix, err)
	}
}

// addAddr sends one RTM_NEWADDR (rtnetlink(7)) and reads the kernel's answer to it.
func addAddr(prefix netip.Prefix) error {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Sendto(fd, newAddr(prefix, lo.Index), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return os.NewSyscallError("recvfrom", err)
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("the kernel's answer is no acknowledgement")
	}
	if errno := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); errno != 0 {
		return unix.Errno(-errno)
	}
	return nil
}

// awaitAddr waits until a datagram to the address arrives. The kernel installs an
// IPv6 address's own route later, from a work queue, and the prefix's at once:
// with 16 busy processes on 2 CPUs, one connect in eight came between the two,
// and failed a second later with "network is unreachable".
func awaitAddr(addr netip.Addr) error {
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
	return fmt.Errorf("it was added, and is out of reach after eight seconds: %w", err)
}

// newAddr encodes struct nlmsghdr, struct ifaddrmsg, and the address as
// IFA_LOCAL and IFA_ADDRESS.
func newAddr(prefix netip.Prefix, index int) []byte {
	family := byte(unix.AF_INET)
	if prefix.Addr().Is6() {
		family = unix.AF_INET6
	}
	addr := prefix.Addr().AsSlice()
	size := unix.SizeofNlMsghdr + unix.SizeofIfAddrmsg + 2*(unix.SizeofRtAttr+len(addr))

	b := make([]byte, 0, size)
	b = binary.NativeEndian.AppendUint32(b, uint32(size))
	b = binary.NativeEndian.AppendUint16(b, unix.RTM_NEWADDR)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	b = append(b, make([]byte, 8)...) // sequence number and sender
	b = append(b, family, byte(prefix.Bits()), unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE)
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	for _, kind := range []uint16{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
		b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(addr)))
		b = binary.NativeEndian.AppendUint16(b, kind)
		b = append(b, addr...)
	}
	return b
}
