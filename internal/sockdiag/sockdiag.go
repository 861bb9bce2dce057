// Package sockdiag asks the Linux kernel which sockets there are: all of them
// or those that match a [Query], streamed, and one by its 4-tuple with
// [Lookup]. It is what ss(8) does, for the few fields that an allocator of
// ports needs.
//
// The questions travel over netlink (NETLINK_SOCK_DIAG, sock_diag(7)). They
// need no privilege and concern the network namespace of the calling thread.
// The messages are those of include/uapi/linux/inet_diag.h; the code that
// encodes and decodes them builds on every operating system, the code that
// sends them only on Linux. Elsewhere each question fails with an error that
// Is [errors.ErrUnsupported].
package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// ErrInterrupted is what errors.Is finds in the last error of [Query.All] when
// the kernel says that its tables changed under the walk in a way that may have
// lost sockets (NLM_F_DUMP_INTR). The sockets seen before it are real; whoever
// needs all of them asks again.
var ErrInterrupted = errors.New("the socket tables changed during the walk")

// Protocol is a transport protocol by its IP protocol number.
// The zero Protocol means [TCP] wherever one is asked for.
type Protocol uint8

// The protocols that can be asked about.
const (
	TCP Protocol = 6  // IPPROTO_TCP
	UDP Protocol = 17 // IPPROTO_UDP
)

// String returns "tcp", "udp", or the number in words.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// Family is the address family of a socket, in Linux's numbers on every system.
// The zero Family means both wherever one is asked for.
type Family uint8

// The families that can be asked about.
const (
	IPv4 Family = 2  // AF_INET
	IPv6 Family = 10 // AF_INET6
)

// String returns "ipv4", "ipv6", or the number in words.
func (f Family) String() string {
	switch f {
	case IPv4:
		return "ipv4"
	case IPv6:
		return "ipv6"
	}
	return fmt.Sprintf("family %d", uint8(f))
}

// Socket is one socket of the kernel's tables, as it was when the kernel looked.
// It is a plain, comparable value.
//
// Addresses are unmapped: an IPv6 socket that talks IPv4 has [IPv6] as its
// Family and IPv4 addresses, as they are on the wire. Scope zones are dropped.
type Socket struct {
	Protocol Protocol
	Family   Family
	State    State

	// Local and Remote are the two ends. Where the socket has no such end (the
	// remote end of a listener), it is the unspecified address with port 0.
	Local, Remote netip.AddrPort

	// UID is the user who owns the socket. The kernel no longer knows it in
	// TIME_WAIT and says 0.
	UID uint32

	// Inode is what /proc/PID/fd/N shows as socket:[inode]. It is 0 once no
	// process holds the socket: in TIME_WAIT, and on its way there after close(2).
	Inode uint32

	// Device is the index of the interface to which the socket is bound, 0 if it is
	// bound to none.
	Device int

	// Cookie is what SO_COOKIE says of the socket, and no other socket ever has. What
	// is left of it in TIME_WAIT keeps it.
	Cookie uint64

	// Expires is what is left of TIME_WAIT, to the millisecond. A closed socket in
	// FIN_WAIT_2 that waits in the same table has it too; for all others it is 0.
	Expires time.Duration
}

// IsLeftOver reports whether the socket itself has been destroyed and this is what
// the kernel keeps in its place, in TIME_WAIT or, closed, in FIN_WAIT_2.
func (s Socket) IsLeftOver() bool { return s.State == TimeWait || s.Expires != 0 }
