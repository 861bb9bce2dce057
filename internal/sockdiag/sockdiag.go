// Package sockdiag asks the Linux kernel which sockets exist, as ss(8) does. [Query.All] lists the sockets that match a
// [Query], [Lookup] finds one by its 4-tuple, and a [Watcher] hears of sockets that are destroyed. Only the fields that
// a port allocator needs are decoded.
//
// The package uses netlink (NETLINK_SOCK_DIAG, sock_diag(7)), which needs no privilege. The answers are about the
// network namespace of the calling thread. The messages are defined in include/uapi/linux/inet_diag.h. The code that
// encodes and decodes them builds on every operating system, the code that sends them only on Linux. On other systems
// each call fails with an error that Is [errors.ErrUnsupported].
package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// ErrInterrupted is the last error of [Query.All] if the kernel's tables changed during the walk, so that sockets may
// be missing (NLM_F_DUMP_INTR). The sockets before it are real. Ask again to get all of them.
var ErrInterrupted = errors.New("the socket tables changed during the walk")

// Protocol is a transport protocol by its IP protocol number. In a [Query] or an [Exact] the zero Protocol means [TCP].
type Protocol uint8

// The protocols that the package supports.
const (
	TCP Protocol = 6  // IPPROTO_TCP
	UDP Protocol = 17 // IPPROTO_UDP
)

// String returns "tcp", "udp", or a text such as "protocol 1".
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// Family is the address family of a socket. It has the numbers of Linux on every system. In a [Query] the zero Family
// means both families.
type Family uint8

// The families that the package supports.
const (
	IPv4 Family = 2  // AF_INET
	IPv6 Family = 10 // AF_INET6
)

// String returns "ipv4", "ipv6", or a text such as "family 1".
func (f Family) String() string {
	switch f {
	case IPv4:
		return "ipv4"
	case IPv6:
		return "ipv6"
	}
	return fmt.Sprintf("family %d", uint8(f))
}

// Socket describes a socket at the moment when the kernel looked at it. It is a comparable value.
//
// Addresses are those on the wire: an IPv6 socket that talks IPv4 has the Family [IPv6] and IPv4 addresses. Zones are
// dropped.
type Socket struct {
	Protocol Protocol
	Family   Family
	State    State

	// Local and Remote are the two ends. An end that the socket does not have, such as the remote end of a listener, is
	// the unspecified address with port 0.
	Local, Remote netip.AddrPort

	// UID is the user who owns the socket. It is 0 in TIME_WAIT, because the kernel no longer knows the user.
	UID uint32

	// Inode is the number in the link /proc/PID/fd/N, "socket:[inode]". It is 0 when no process holds the socket: in
	// TIME_WAIT, and on its way there after close(2).
	Inode uint32

	// Device is the index of the interface that the socket is bound to, or 0 if it is bound to none.
	Device int

	// Cookie is the number that SO_COOKIE returns. No other socket ever has the same. The socket keeps it in TIME_WAIT.
	Cookie uint64

	// Expires is the time until TIME_WAIT ends, in whole milliseconds. A closed socket in FIN_WAIT_2 has it too,
	// because it waits in the same table. For all other sockets it is 0.
	Expires time.Duration
}

// IsLeftOver reports whether the socket itself is destroyed, and s is the entry that the kernel keeps in its place: in
// TIME_WAIT, or in FIN_WAIT_2 after close(2).
func (s Socket) IsLeftOver() bool { return s.State == TimeWait || s.Expires != 0 }
