package tuple_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// After each ending a tuple cools down for exactly as long as the CoolDown says.
func TestTupleRestsByHowItsUseEnded(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		coolDown tuple.CoolDown
		rests    [5]time.Duration // by Ending, in their order
	}{
		"default": {tuple.CoolDown{}, [5]time.Duration{60 * s, 0, 16 * s, 0, 0}},
		"Azure":   {tuple.AzureNAT(), [5]time.Duration{65 * s, 65 * s, 16 * s, 30 * s, 65 * s}},
		"RFC":     {tuple.RFC6888(), [5]time.Duration{120 * s, 120 * s, 120 * s, 120 * s, 120 * s}},
		"own": {
			tuple.CoolDown{1 * s, 2 * s, 3 * s, 4 * s, 5 * s},
			[5]time.Duration{1 * s, 2 * s, 3 * s, 4 * s, 5 * s},
		},
		"none": {tuple.CoolDown{-1, -1, -1, -1, -1}, [5]time.Duration{}},
		"some": {tuple.CoolDown{Reset: -1, Datagram: 9 * s}, [5]time.Duration{60 * s, 0, 0, 0, 9 * s}},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5000), CoolDown: test.coolDown}
			endings := []tuple.Ending{
				tuple.ActiveClose, tuple.PassiveClose, tuple.Reset, tuple.NeverEstablished, tuple.Datagram,
			}
			for i, how := range endings {
				u := acquire(t, p, web)
				require.True(t, p.RetireAs(u, how))
				require.False(t, p.RetireAs(u, how), "it is not in use")
				if rest := test.rests[i]; rest > 0 {
					time.Sleep(rest - 1)
					require.True(t, p.Contains(u), "%s, ending %d", name, how)
					time.Sleep(time.Nanosecond)
				}
				require.False(t, p.Contains(u), "%s, ending %d", name, how)
			}
			u := acquire(t, p, web)
			require.True(t, p.RetireAs(u, 99))
			require.Equal(t, test.rests[tuple.ActiveClose] > 0, p.Contains(u), "an ending that is none is in doubt")
		})
	}
}
