package ports

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAllowedHoldsExactlyThePortsItWasGiven(t *testing.T) {
	for _, shape := range shapes {
		a := Allow(slices.Values(shape.ports))
		require.Equal(t, len(shape.ports), a.Len(), shape.name)
		in := map[uint16]bool{}
		for rank, port := range shape.ports {
			in[port] = true
			require.Equal(t, port, a.port(rank), "%s: rank %d", shape.name, rank)
		}
		for port := range 1 << 16 {
			if got, want := a.Contains(uint16(port)), in[uint16(port)]; got != want {
				require.Equal(t, want, got, "%s: port %d", shape.name, port)
			}
		}
	}
}

// choose needs a mask that can hit every port, and that wastes at most half of the positions.
func TestProbeCoversTheSpanTightly(t *testing.T) {
	for _, shape := range shapes {
		if len(shape.ports) == 0 {
			continue
		}
		a := Allow(slices.Values(shape.ports))
		last := uint64(bit(a, shape.ports[len(shape.ports)-1]))
		require.Zero(t, a.base%64, shape.name)
		require.Zero(t, a.probe&(a.probe+1), "%s: %#x is not a mask", shape.name, a.probe)
		require.GreaterOrEqual(t, a.probe, last, shape.name)
		require.LessOrEqual(t, a.probe/2, last, shape.name)
		require.Less(t, a.probe, uint64(1<<16), "%s: a probe takes 16 bits of a random number", shape.name)
	}
}
