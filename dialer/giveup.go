package dialer

import (
	"net/netip"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// afterGivingUp returns how long t must rest after an attempt that was cut short. As a rule the connection was not
// established, and nothing is left of it; but it may have been at the last instant, and then closing it left TIME_WAIT. The
// kernel knows.
func (a *attempt) afterGivingUp(t tuple.Tuple) time.Duration {
	local := a.localOf(t)
	if a.socket.device {
		return timeWait // Lookup does not find those
	}
	if !local.Addr().IsValid() {
		source, err := sourceFor(a.remote)
		if err != nil {
			return timeWait
		}
		local = netip.AddrPortFrom(source, local.Port())
	}
	return restOf(local, a.remote)
}

// restOf returns how long a tuple without a socket must rest: not at all if the kernel has nothing of it. That counts if
// it was seen twice, for a socket is not to be found at the instant in which it goes over to TIME_WAIT
// (inet_twsk_hashdance_schedule in net/ipv4/inet_timewait_sock.c): so it was in one of some thousand cancelled dials.
func restOf(local, remote netip.AddrPort) time.Duration {
	if remote.Addr().IsLinkLocalUnicast() {
		return timeWait // Lookup does not find those
	}
	for range 2 {
		if _, found, err := sockdiag.Lookup(sockdiag.TCP, local, remote); err != nil || found {
			return timeWait
		}
	}
	return 0
}
