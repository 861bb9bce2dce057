package dialer_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// On another system the operating system chooses the port, and the pool records it. A full pool refuses, a dial can
// wait, and each way out gives the tuple back.
func TestOtherSystemKeepsTheAccount(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40099") {
		return
	}
	dialer.ForceOtherSystem()
	to := listen(t, "tcp", "127.0.0.1:9000")
	udp := echoUDP(t, "127.0.0.1:9000")
	for _, sources := range [][]string{nil, {"127.0.0.1/32"}} {
		p, u := pool("40000-40099", sources...), pool("40000-40099", sources...)
		p.MaxTuples = 5
		d := &dialer.Dialer{TCP: p, UDP: u, Wait: soon}
		var conns []*dialer.TCPConn
		for range 5 {
			c := dial(t, d, to.addr())
			require.Equal(t, local(c).Port(), c.Tuple().Src().Port())
			require.True(t, p.Contains(c.Tuple()))
			conns = append(conns, c)
		}
		require.Equal(t, 5, p.Stats().InUse)
		go func() {
			for p.Stats().Waiting == 0 {
				time.Sleep(time.Millisecond)
			}
			conns[0].Abort()
		}()
		conns = append(conns, dial(t, d, to.addr()))
		for _, c := range conns[1:] {
			require.NoError(t, c.Abort())
		}
		c := dialUDP(t, d, udp.String())
		require.Equal(t, localUDP(c).Port(), c.Tuple().Src().Port())
		require.Equal(t, 1, u.Stats().InUse)
		require.NoError(t, c.Close())

		_, err := d.Dial("tcp", closedPort(t, "127.0.0.1"))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		asked := &dialer.Dialer{
			TCP:       p,
			NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40007}},
		}
		a := dial(t, asked, to.addr())
		require.EqualValues(t, 40007, local(a).Port())
		require.Equal(t, 1, p.Stats().InUse)
		require.NoError(t, a.Abort())
		require.Equal(t, tuple.Stats{}, p.Stats())
		require.Equal(t, tuple.Stats{}, u.Stats())
	}
}
