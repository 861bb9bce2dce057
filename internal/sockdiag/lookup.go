package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"
)

// Lookup finds the one socket with exactly these two ends, TIME_WAIT included,
// in constant time. A listener, or a UDP socket that is not connected, has no
// remote end: the zero AddrPort stands for that, and matches no connected
// socket. Addresses are unmapped before the search, zones ignored; a socket that
// is bound to a device (SO_BINDTODEVICE, and so each one with a link-local
// address) is not found.
//
// Where several UDP sockets share a tuple, it finds one of them. A kernel built
// without inet_diag's part for the protocol says of every tuple that it is not
// found; [Query.All] tells the difference.
//
// An error is one about the arguments, one that Is a syscall.Errno if the kernel
// refused, or one that Is [errors.ErrUnsupported].
func Lookup(protocol Protocol, local, remote netip.AddrPort) (s Socket, found bool, err error) {
	return lookup(find, protocol, local, remote)
}

// finder asks the kernel for one socket. What comes back may be less than exact.
type finder func(protocol Protocol, local, remote netip.AddrPort) (Socket, bool, error)

func lookup(find finder, protocol Protocol, local, remote netip.AddrPort) (s Socket, found bool, err error) {
	if protocol == 0 {
		protocol = TCP
	}
	local, remote, err = ends(protocol, local, remote)
	if err == nil {
		s, found, err = find(protocol, local, remote)
	}
	if err != nil {
		return Socket{}, false, fmt.Errorf("sockdiag: look up %s %s->%s: %w", protocol, local, remote, err)
	}
	// The kernel's search is that for an arriving packet: without a connection, it
	// comes back with the listener.
	if !found || s.Local != local || s.Remote != remote {
		return Socket{}, false, nil
	}
	return s, true, nil
}

// ends checks what Lookup was given and brings it into the form of [Socket].
func ends(protocol Protocol, local, remote netip.AddrPort) (l, r netip.AddrPort, err error) {
	if err := checkProtocol(protocol); err != nil {
		return local, remote, err
	}
	if !local.IsValid() {
		return local, remote, errors.New("the local end has no address")
	}
	l = plain(local)
	switch {
	case remote.IsValid():
		r = plain(remote)
	case l.Addr().Is4():
		r = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	default:
		r = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	}
	if l.Addr().Is4() != r.Addr().Is4() {
		return l, r, errors.New("one end is IPv4 and the other IPv6")
	}
	return l, r, nil
}

func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
