package dialer_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// Before Linux 6.3 the kernel chooses from its own ports if the pool has all of them. The pool records the choice, up
// to the last port towards each destination, and other programs can still dial.
func TestOldKernelChoosesAndThePoolFollows(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40015") {
		return
	}
	dialer.ForceOldKernel()
	const ports, destinations = 16, 3
	for i, family := range []struct{ ip, source string }{
		{"127.0.0.1", ""}, {"127.0.0.1", "127.0.0.5/32"}, {"::1", ""}, {"::1", "::1/128"},
	} {
		t.Run(family.ip+" from "+family.source, func(t *testing.T) {
			p := pool("40000-40015")
			if family.source != "" {
				p = pool("40000-40015", family.source)
			}
			d := &dialer.Dialer{TCP: p}
			var conns []*dialer.TCPConn
			for j := range destinations {
				to := listen(t, "tcp", net.JoinHostPort(family.ip, fmt.Sprint(9000+10*i+j)))
				for range ports {
					c := dial(t, d, to.addr())
					require.Equal(t, local(c).Port(), c.Tuple().Src().Port(), "the pool has what the kernel chose")
					require.True(t, p.Contains(c.Tuple()))
					conns = append(conns, c)
				}
				_, err := d.Dial("tcp", to.addr())
				require.ErrorIs(t, err, tuple.ErrExhausted)
			}
			require.Equal(t, tuple.Stats{InUse: ports * destinations, Destinations: destinations}, p.Stats())

			other := listen(t, "tcp", net.JoinHostPort(family.ip, fmt.Sprint(9009+10*i)))
			c, err := net.Dial("tcp", other.addr())
			require.NoError(t, err, "the ports are shared with everybody")
			c.Close()
			for _, c := range conns {
				require.NoError(t, c.Abort())
			}
			require.Equal(t, tuple.Stats{}, p.Stats())
		})
	}
}

// If an older kernel chooses a tuple that cools down in the pool, the dial binds the pool's own choice.
func TestOldKernelsChoiceThatCoolsDownIsNotUsed(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40003") {
		return
	}
	dialer.ForceOldKernel()
	to := listen(t, "tcp", "127.0.0.1:9000")
	p := pool("40000-40003")
	p.CoolDown.Reset = time.Minute
	d := &dialer.Dialer{TCP: p}
	seen := map[uint16]bool{}
	for range 4 {
		c := dial(t, d, to.addr())
		require.False(t, seen[local(c).Port()])
		require.Equal(t, local(c).Port(), c.Tuple().Src().Port())
		seen[local(c).Port()] = true
		require.NoError(t, c.Abort())
	}
	require.Equal(t, 4, p.Stats().Retired)
}

// A pool with only some of the kernel's ports gets them on an older kernel too, because it binds them.
func TestOldKernelGivesAPoolItsPart(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	dialer.ForceOldKernel()
	to := listen(t, "tcp", "127.0.0.1:9000")
	p := pool("40100-40103")
	d := &dialer.Dialer{TCP: p}
	for range 4 {
		require.True(t, p.Ports.Contains(local(dial(t, d, to.addr())).Port()))
	}
	_, err := d.Dial("tcp", to.addr())
	require.ErrorIs(t, err, tuple.ErrExhausted)
}
