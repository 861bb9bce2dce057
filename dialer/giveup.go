package dialer

import (
	"context"
	"net/netip"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// afterGivingUp returns how long t must rest after an attempt that ctx cut short. As a rule the connection was not
// established, and nothing is left of it; but it may have been at the last instant, and then closing it left TIME_WAIT. The
// kernel knows.
func (a *attempt) afterGivingUp(t tuple.Tuple) time.Duration {
	local := a.localOf(t)
	if !local.Addr().IsValid() {
		source, ok := sourceFor(context.Background(), a.remote)
		if !ok {
			return timeWait
		}
		local = netip.AddrPortFrom(source, local.Port())
	}
	if _, found, err := sockdiag.Lookup(sockdiag.TCP, local, a.remote); err == nil && !found {
		return 0
	}
	return timeWait
}
