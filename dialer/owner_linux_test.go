package dialer_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

// An owner's connections leave from one address, and count for the owner alone.
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
