package tuple_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// An acquire of certain ports that finds none free may have moved its destination. The error and the reuse that follow
// look for it again.
func TestAcquireOfCertainPortsFindsItsDestinationAgain(t *testing.T) {
	for _, reuse := range []bool{false, true} {
		p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5005), ReuseRetired: reuse}
		r := tuple.Request{Dst: web, Ports: alloc.RangeSet(5000, 5001)}
		for _, port := range []string{"5000", "5001"} {
			u := tuple.MustParse("0.0.0.0:" + port + "->" + web.String())
			require.True(t, p.Reserve(u) && p.Retire(u, time.Hour))
		}
		got, err := p.TryAcquireFor(r)
		if reuse {
			require.NoError(t, err)
			require.Equal(t, uint16(5000), got.Src().Port())
		} else {
			exhausted := new(tuple.ExhaustedError)
			require.ErrorAs(t, err, &exhausted)
			require.Equal(t, 2, exhausted.Retired)
		}
		require.NoError(t, p.Check())
	}
}
