package sockdiag

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// The constants of include/uapi/linux/netlink.h, sock_diag.h and inet_diag.h. Integers are in the host's byte order,
// ports and addresses in the network's.
const (
	messageHeader  = 16 // struct nlmsghdr
	attrHeader     = 4  // struct nlattr
	requestSize    = 56 // struct inet_diag_req_v2
	oldRequestSize = 60 // struct inet_diag_req
	replySize      = 72 // struct inet_diag_msg

	typeError       = 2  // NLMSG_ERROR
	typeDone        = 3  // NLMSG_DONE
	typeTCPDiag     = 18 // TCPDIAG_GETSOCK: the older request, for both families at once
	typeSockDiag    = 20 // SOCK_DIAG_BY_FAMILY
	flagRequest     = 0x1
	flagInterrupted = 0x10  // NLM_F_DUMP_INTR
	flagDump        = 0x300 // NLM_F_ROOT | NLM_F_MATCH
	attrBytecode    = 1     // INET_DIAG_REQ_BYTECODE
	timerTimeWait   = 3
	noCookie        = ^uint32(0) // INET_DIAG_NOCOOKIE
	alignment       = 4
)

// bothFamilies asks for IPv4 and IPv6 sockets in one walk. The kernel supports that for TCP only.
const bothFamilies Family = 0

// appendDump appends the request for every socket that matches q, of one family or of both.
func appendDump(b []byte, q Query, family Family, seq uint32) ([]byte, error) {
	code, err := q.bytecode()
	if err != nil {
		return b, err
	}
	states := q.States
	if states == 0 {
		states = everyState
	}
	kind, size := uint16(typeSockDiag), messageHeader+requestSize
	if family == bothFamilies {
		kind, size = typeTCPDiag, messageHeader+oldRequestSize
	}
	if len(code) > 0 {
		size += attrHeader + len(code)
	}
	b = appendHeader(b, size, kind, flagRequest|flagDump, seq)
	if family == bothFamilies {
		b = append(b, byte(IPv4), 0, 0, 0) // the kernel ignores the family
		b = append(b, make([]byte, 48)...) // struct inet_diag_sockid: any
		b = binary.NativeEndian.AppendUint32(b, uint32(states))
		b = append(b, 0, 0, 0, 0)
	} else {
		b = append(b, byte(family), byte(q.protocol()), 0, 0)
		b = binary.NativeEndian.AppendUint32(b, uint32(states))
		b = append(b, make([]byte, 48)...)
	}
	if len(code) > 0 {
		b = binary.NativeEndian.AppendUint16(b, uint16(attrHeader+len(code)))
		b = binary.NativeEndian.AppendUint16(b, attrBytecode)
		b = append(b, code...)
	}
	return b, nil
}

// appendLookup appends the request for one socket. x must come from plain.
func appendLookup(b []byte, x Exact, seq uint32) []byte {
	family := IPv4
	if x.Local.Addr().Is6() {
		family = IPv6
	}
	first, second := x.Local, x.Remote
	if x.Protocol == UDP {
		// udp_dump_one expects them in the other order, "for historical reasons".
		first, second = second, first
	}
	b = appendHeader(b, messageHeader+requestSize, typeSockDiag, flagRequest, seq)
	b = append(b, byte(family), byte(x.Protocol), 0, 0)
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0))
	b = binary.BigEndian.AppendUint16(b, first.Port())
	b = binary.BigEndian.AppendUint16(b, second.Port())
	b = appendAddr(b, first.Addr())
	b = appendAddr(b, second.Addr())
	b = binary.NativeEndian.AppendUint32(b, uint32(x.Device))
	b = binary.NativeEndian.AppendUint32(b, noCookie)
	return binary.NativeEndian.AppendUint32(b, noCookie)
}

func appendHeader(b []byte, size int, kind, flags uint16, seq uint32) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(size))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	return binary.NativeEndian.AppendUint32(b, 0) // to the kernel
}

// appendAddr appends an address as the 16 bytes of a sockid. IPv4 takes the first four.
func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		four := a.As4()
		return append(append(b, four[:]...), make([]byte, 12)...)
	}
	sixteen := a.As16()
	return append(b, sixteen[:]...)
}

// message is one netlink message; its payload lies in the datagram.
type message struct {
	kind    uint16
	flags   uint16
	seq     uint32
	payload []byte
}

// nextMessage splits the first message off a datagram.
func nextMessage(b []byte) (m message, rest []byte, err error) {
	if len(b) < messageHeader {
		return m, nil, fmt.Errorf("the kernel's answer ends within a header: %d bytes left of %d",
			len(b), messageHeader)
	}
	size := binary.NativeEndian.Uint32(b)
	if size < messageHeader || uint64(size) > uint64(len(b)) {
		return m, nil, fmt.Errorf("the kernel's answer holds a message of %d bytes in %d", size, len(b))
	}
	m = message{
		kind:    binary.NativeEndian.Uint16(b[4:]),
		flags:   binary.NativeEndian.Uint16(b[6:]),
		seq:     binary.NativeEndian.Uint32(b[8:]),
		payload: b[messageHeader:size],
	}
	aligned := (int(size) + alignment - 1) &^ (alignment - 1)
	return m, b[min(aligned, len(b)):], nil
}

// errno returns the error number of an NLMSG_ERROR or NLMSG_DONE, or 0 for success. A message without a number is a
// success, because old kernels end a dump like that.
func (m message) errno() int {
	if len(m.payload) < 4 {
		return 0
	}
	return -int(int32(binary.NativeEndian.Uint32(m.payload)))
}

// decodeSocket decodes a struct inet_diag_msg, which does not name its protocol. It skips the attributes that may
// follow.
func decodeSocket(b []byte, protocol Protocol) (Socket, error) {
	if len(b) < replySize {
		return Socket{}, fmt.Errorf("the kernel's answer about a socket is cut off: %d bytes of %d", len(b), replySize)
	}
	s := Socket{
		Protocol: protocol,
		Family:   Family(b[0]),
		State:    State(b[1]),
		Cookie:   decodeCookie(b),
		Device:   int(binary.NativeEndian.Uint32(b[40:])),
		UID:      binary.NativeEndian.Uint32(b[64:]),
		Inode:    binary.NativeEndian.Uint32(b[68:]),
	}
	local, ok := decodeAddr(b[8:24], s.Family)
	remote, _ := decodeAddr(b[24:40], s.Family)
	if !ok {
		return Socket{}, fmt.Errorf("the kernel's answer has a socket of the wrong family: %s", s.Family)
	}
	s.Local = netip.AddrPortFrom(local, binary.BigEndian.Uint16(b[4:]))
	s.Remote = netip.AddrPortFrom(remote, binary.BigEndian.Uint16(b[6:]))
	if b[2] == timerTimeWait {
		s.Expires = time.Duration(binary.NativeEndian.Uint32(b[52:])) * time.Millisecond
	}
	return s, nil
}

// decodeCookie returns the cookie of an inet_diag_msg. Its lower half comes first.
func decodeCookie(b []byte) uint64 {
	return uint64(binary.NativeEndian.Uint32(b[44:])) | uint64(binary.NativeEndian.Uint32(b[48:]))<<32
}

func decodeAddr(b []byte, family Family) (netip.Addr, bool) {
	switch family {
	case IPv4:
		return netip.AddrFrom4([4]byte(b)), true
	case IPv6:
		return netip.AddrFrom16([16]byte(b)).Unmap(), true
	}
	return netip.Addr{}, false
}
