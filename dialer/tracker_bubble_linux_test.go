package dialer_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
)

// A Tracker that is first used in a synctest bubble returns an error, because its goroutine would keep the bubble from
// ending. One that listens already works there.
func TestTrackerIsNotBornInABubble(t *testing.T) {
	to := listen(t, "tcp", "127.0.0.1:0").addr()
	tracker := newTracker(t)
	d := &dialer.Dialer{Tracker: tracker}
	synctest.Test(t, func(t *testing.T) {
		_, err := d.Dial("tcp", to)
		require.ErrorContains(t, err, "synctest bubble")
		_, err = tracker.NetDialer(d)
		require.ErrorContains(t, err, "synctest bubble")
	})
	_, err := tracker.NetDialer(d)
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		c, err := d.Dial("tcp", to)
		require.NoError(t, err)
		resetPlain(c)
	})
}
