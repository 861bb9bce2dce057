package dialer

import (
	"net/netip"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// afterGivingUp returns how an attempt from t that was cut short ended. As a rule the connection was not established, and
// nothing is left of it; but it may have been at the last instant, and then closing it left TIME_WAIT. The kernel knows.
func (a *attempt) afterGivingUp(t tuple.Tuple) tuple.Ending {
	if a.socket.device {
		return tuple.ClosedHere // Lookup does not find those
	}
	local, err := a.localEnd(t)
	if err != nil {
		return tuple.ClosedHere
	}
	return endingOf(local, a.remote, 0, tuple.NeverEstablished)
}

// localEnd is localOf with the address that the kernel chooses.
func (a *attempt) localEnd(t tuple.Tuple) (netip.AddrPort, error) {
	local := a.localOf(t)
	if local.Addr().IsValid() {
		return local, nil
	}
	source, err := sourceFor(a.remote)
	return netip.AddrPortFrom(source, local.Port()), err
}

// endingOf returns how the use of a tuple without a socket ended: ClosedHere if the kernel has something of it, and else the
// given one. That counts if it was seen twice, for a socket is not to be found at the instant in which it goes over to
// TIME_WAIT (inet_twsk_hashdance_schedule in net/ipv4/inet_timewait_sock.c): so it was in one of some thousand cancelled dials.
//
// The socket was in this network namespace, or in the thread's if that is 0. The kernel answers for the thread's alone.
func endingOf(local, remote netip.AddrPort, namespace uint64, ifGone tuple.Ending) tuple.Ending {
	if isOnDevice(remote.Addr()) {
		return tuple.ClosedHere // Lookup does not find those
	}
	if namespace != 0 {
		if here, err := sockopt.Kernel(); err != nil || here.Namespace != namespace {
			return tuple.ClosedHere
		}
	}
	for range 2 {
		if _, found, err := sockdiag.Lookup(sockdiag.TCP, local, remote); err != nil || found {
			return tuple.ClosedHere
		}
	}
	return ifGone
}

// isOnDevice reports whether a socket that is connected to ip is bound to a device by that: a link-local one of IPv6.
func isOnDevice(ip netip.Addr) bool { return ip.Is6() && ip.IsLinkLocalUnicast() }
