package sockdiag

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The states have the numbers of the kernel and the names of ss(8).
func TestStates(t *testing.T) {
	for s, name := range map[State]string{
		1: "ESTAB", 6: "TIME-WAIT", 7: "UNCONN", 10: "LISTEN", 12: "NEW-SYN-RECV", 13: "BOUND-INACTIVE",
		0: "STATE-0", 14: "STATE-14", 255: "STATE-255",
	} {
		require.Equal(t, name, s.String())
	}
	require.Equal(t, State(6), TimeWait)
	require.Equal(t, States(1<<6|1<<10), StatesOf(TimeWait, Listen))
	require.Equal(t, "TIME-WAIT|LISTEN", StatesOf(Listen, TimeWait).String())
	require.Zero(t, StatesOf(0, 14, 255))
}

// The zero States has every state except BoundInactive.
func TestZeroStatesIsAll(t *testing.T) {
	var all States
	for s := Established; s <= NewSynRecv; s++ {
		require.True(t, all.Contains(s), s)
	}
	require.False(t, all.Contains(BoundInactive))
	require.False(t, all.Contains(0))
	require.False(t, all.Contains(200))
	require.Equal(t, "all", all.String())
	require.Equal(t, States(0x1ffe), everyState)
}
