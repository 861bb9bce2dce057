package dialer_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// The connections of an owner leave from one address, and count only for that owner.
func TestOwnerIsThatOfItsTuples(t *testing.T) {
	p := pool("20000-20999", "127.0.0.2/32", "127.0.0.3/32", "127.0.0.4/32")
	p.Policy, p.MaxPerOwner = tuple.StickyOwner, 3
	address := listen(t, "tcp4", "127.0.0.1:0").addr()
	for _, owner := range []string{"a", "b", "c"} {
		d := &dialer.Dialer{TCP: p, Owner: owner}
		var from netip.Addr
		for i := range 3 {
			src := local(dial(t, d, address)).Addr()
			if i > 0 {
				require.Equal(t, from, src)
			}
			from = src
		}
		_, err := d.Dial("tcp", address)
		require.ErrorIs(t, err, tuple.ErrQuota)
		require.ErrorContains(t, err, owner)
	}
}

// Ports that the kernel chose, and ports that the caller asked for, count for the owner too.
func TestMaxPerOwnerHoldsWhoeverChoseThePort(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40099") {
		return
	}
	dialer.ForceOldKernel()
	to := listen(t, "tcp", "127.0.0.1:9000")
	p := pool("40000-40099")
	p.MaxPerOwner = 3
	d := &dialer.Dialer{TCP: p, Owner: "a"}
	c, err := d.DialTCP(t.Context(), "tcp", netip.MustParseAddrPort("127.0.0.1:40007"), to.addrPort())
	require.NoError(t, err)
	t.Cleanup(func() { c.Abort() })
	dial(t, d, to.addr())
	dial(t, d, to.addr())
	_, err = d.Dial("tcp", to.addr())
	require.ErrorIs(t, err, tuple.ErrQuota)
	d.Owner = "b"
	dial(t, d, to.addr())
}
