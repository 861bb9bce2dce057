package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrElsewhere is what errors.Is finds in the error of [Exact.Lookup] when the calling thread is in another network
// namespace than the one that is asked about. A thread cannot ask about a namespace that it is not in.
var ErrElsewhere = errors.New("the calling thread is in another network namespace")

// Exact names one socket by its two ends.
type Exact struct {
	// Protocol is TCP or UDP. 0 means TCP.
	Protocol Protocol

	// Local and Remote are the two ends. A listener, or a UDP socket that is not connected, has no remote end: the zero
	// AddrPort stands for that, and matches no connected socket. IPv4-mapped addresses mean the IPv4 ones. Zones are
	// ignored.
	Local, Remote netip.AddrPort

	// Device is the index of the interface to which the socket is bound by SO_BINDTODEVICE, or by a link-local address.
	// 0 finds only a socket that is bound to no device. Another index finds the sockets bound to it, and those bound to
	// no device: the kernel searches as it does for a packet that arrives there. [Socket.Device] tells them apart.
	Device int

	// Namespace is the number of the network namespace of the socket, as SO_NETNS_COOKIE of any socket tells it. With
	// it a look-up reuses a netlink socket of that namespace, and costs a third. 0 means the namespace of the calling
	// thread.
	Namespace uint64
}

// Lookup finds the socket with exactly these two ends, TIME_WAIT included, in constant time.
//
// If several UDP sockets share a tuple, it finds one of them. A kernel without inet_diag for the protocol says of every
// tuple that it is not found. [Query.All] tells the difference.
//
// The error is one about the arguments, one that Is a syscall.Errno if the kernel refuses, or one that Is
// [ErrElsewhere] or [errors.ErrUnsupported].
//
// It keeps at most two netlink sockets for each Namespace, and eight in all. One that is idle for 10 seconds is closed
// by the next look-up or garbage collection, which comes every two minutes even in an idle process. Until then it keeps
// its namespace alive. [CloseIdle] closes them at once. Any number of goroutines may call it at the same time.
func (x Exact) Lookup() (s Socket, found bool, err error) { return x.lookup(find) }

// Lookup is [Exact.Lookup] for a socket that is bound to no device, in the namespace of the calling thread.
func Lookup(protocol Protocol, local, remote netip.AddrPort) (s Socket, found bool, err error) {
	return Exact{Protocol: protocol, Local: local, Remote: remote}.Lookup()
}

// finder asks the kernel for one socket. The answer may be less than exact.
type finder func(x Exact) (Socket, bool, error)

func (x Exact) lookup(find finder) (s Socket, found bool, err error) {
	x, err = x.plain()
	if err == nil {
		s, found, err = find(x)
	}
	if err != nil {
		return Socket{}, false, fmt.Errorf("sockdiag: look up a %s socket: %w: %s->%s", x.Protocol, err, x.Local, x.Remote)
	}
	// The kernel searches as it does for an arriving packet. If there is no connection, it finds the listener.
	if !found || s.Local != x.Local || s.Remote != x.Remote {
		return Socket{}, false, nil
	}
	return s, true, nil
}

// plain checks x and returns it with the ends in the form that [Socket] has.
func (x Exact) plain() (Exact, error) {
	if x.Protocol == 0 {
		x.Protocol = TCP
	}
	if err := checkProtocol(x.Protocol); err != nil {
		return x, err
	}
	if !x.Local.IsValid() {
		return x, errors.New("the local end has no address")
	}
	if x.Device < 0 {
		return x, fmt.Errorf("no interface has the index %d", x.Device)
	}
	x.Local = plain(x.Local)
	switch {
	case x.Remote.IsValid():
		x.Remote = plain(x.Remote)
	case x.Local.Addr().Is4():
		x.Remote = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	default:
		x.Remote = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	}
	if x.Local.Addr().Is4() != x.Remote.Addr().Is4() {
		return x, errors.New("one end is IPv4 and the other IPv6")
	}
	return x, nil
}

func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
