package dialer_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// With a Tracker a UDP dial returns the bare type. Its tuple goes back when all descriptors of the socket are closed.
func TestTrackerFollowsUDPSockets(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	tracker := newTracker(t)
	for _, ip := range []string{"127.0.0.1", "::1"} {
		to := echoUDP(t, net.JoinHostPort(ip, "9000"))
		p := pool("20000-20001")
		d := &dialer.Dialer{UDP: p, Tracker: tracker}
		var conns []*net.UDPConn
		for range 2 {
			c, err := d.Dial("udp", to.String())
			require.NoError(t, err)
			conns = append(conns, c.(*net.UDPConn))
		}
		require.Equal(t, tuple.Stats{InUse: 2, Destinations: 1}, p.Stats())
		_, err := d.Dial("udp", to.String())
		require.ErrorIs(t, err, tuple.ErrExhausted)

		f, err := conns[0].File() // a second descriptor of the same socket
		require.NoError(t, err)
		require.NoError(t, conns[0].Close())
		require.NoError(t, conns[1].Close())
		require.Eventually(t, func() bool { return p.Stats().InUse == 1 }, soon, time.Millisecond)
		require.NoError(t, f.Close())
		requireEmpty(t, p)
	}
	require.Empty(t, tracker.Followed())
}
