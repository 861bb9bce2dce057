package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrElsewhere is the error of [Exact.Lookup] if the calling thread is not in the network namespace that [Exact] names.
// A thread cannot ask about another namespace.
var ErrElsewhere = errors.New("the calling thread is in another network namespace")

// Exact names one socket by its two ends.
type Exact struct {
	// Protocol is TCP or UDP. 0 means TCP.
	Protocol Protocol

	// Local and Remote are the two ends. A listener, or a UDP socket that is not connected, has no remote end. The zero
	// AddrPort stands for that, and matches no connected socket. An IPv4-mapped address means the IPv4 address. Zones
	// are ignored.
	Local, Remote netip.AddrPort

	// Device is the index of the interface that the socket is bound to, by SO_BINDTODEVICE or by a link-local address.
	// 0 finds only a socket that is bound to no device. Another index finds a socket bound to that device or to none,
	// because the kernel searches as it does for a packet that arrives there. [Socket.Device] tells them apart.
	Device int

	// Namespace is the number of the network namespace of the socket, which SO_NETNS_COOKIE returns. With it a look-up
	// reuses a netlink socket of that namespace, and takes a third of the time. 0 means the namespace of the calling
	// thread.
	Namespace uint64
}

// Lookup finds the socket with exactly these two ends, also in TIME_WAIT. It takes constant time. Any number of
// goroutines may call it at the same time.
//
// If several UDP sockets share a tuple, it finds one of them. If the kernel has no inet_diag for the protocol, Lookup
// finds nothing and reports no error; [Query.All] reports one.
//
// The error is about the arguments, or it Is a syscall.Errno if the kernel refuses, or it Is [ErrElsewhere] or
// [errors.ErrUnsupported].
//
// Lookup keeps at most two netlink sockets open for each Namespace, and eight in all. The next look-up or garbage
// collection closes a socket that has been idle for 10 seconds. A garbage collection comes at least every two minutes,
// even in an idle process. Until then the socket keeps its namespace alive. [CloseIdle] closes all of them at once.
func (x Exact) Lookup() (s Socket, found bool, err error) { return x.lookup(find) }

// Lookup is [Exact.Lookup] for a socket that is bound to no device, in the namespace of the calling thread.
func Lookup(protocol Protocol, local, remote netip.AddrPort) (s Socket, found bool, err error) {
	return Exact{Protocol: protocol, Local: local, Remote: remote}.Lookup()
}

// finder asks the kernel for one socket. The answer may be another socket, such as the listener.
type finder func(x Exact) (Socket, bool, error)

func (x Exact) lookup(find finder) (s Socket, found bool, err error) {
	x, err = x.plain()
	if err == nil {
		s, found, err = find(x)
	}
	if err != nil {
		return Socket{}, false, fmt.Errorf("sockdiag: look up a %s socket: %w: %s->%s",
			x.Protocol, err, x.Local, x.Remote)
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
		return x, fmt.Errorf("no interface has index %d", x.Device)
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
