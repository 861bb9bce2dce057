package dialer_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// Addresses with a zone work at both ends and in both lanes. A source gets the zone of the destination.
func TestLinkLocalAddresses(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	if out, err := exec.Command("ip", "addr", "add", "fe80::1/64", "dev", "lo", "nodad").CombinedOutput(); err != nil {
		t.Skipf("no link-local address to be had: %v: %s", err, out)
	}
	require.Eventually(t, func() bool { // the kernel installs the route a little later
		c, err := net.Dial("tcp", "[fe80::1%lo]:9")
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	}, soon, time.Millisecond)
	to := listen(t, "tcp", "[fe80::1%lo]:9000")
	tracker := newTracker(t)
	zoned := func(port int) net.Addr { return &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "lo", Port: port} }
	for i, first := range []uint16{40000, 20000} {
		for name, d := range map[string]*dialer.Dialer{
			"no source": {TCP: pool(fmt.Sprint(first))},
			"Sources":   {TCP: pool(fmt.Sprint(first+1), "fe80::1/128")},
			"LocalAddr": {TCP: pool(fmt.Sprint(first + 2)), NetDialer: &net.Dialer{LocalAddr: zoned(0)}},
			"LocalAddr with port": {
				TCP:       pool(fmt.Sprint(first + 3)),
				NetDialer: &net.Dialer{LocalAddr: zoned(int(first) + 3)},
			},
		} {
			t.Run(fmt.Sprint(i, name), func(t *testing.T) {
				c := dial(t, d, "[fe80::1%lo]:9000")
				require.True(t, d.TCP.Contains(c.Tuple()))
				require.Equal(t, "fe80::1", local(c).Addr().WithZone("").String())
				require.Equal(t, c.Tuple().Src().Port(), local(c).Port())
				a := to.accept(t, c)
				require.NoError(t, c.CloseWrite())
				awaitFIN(t, a)
				require.NoError(t, a.Close())
				awaitFIN(t, c)
				require.NoError(t, c.Close())
				require.Equal(t, 1, d.TCP.Stats().Retired, "TIME_WAIT")
			})
		}
		for way, follow := range ways {
			t.Run(fmt.Sprint(i, way), func(t *testing.T) {
				p := pool(fmt.Sprintf("%d-%d", first+4, first+5), "fe80::1/128")
				c := plain(t, follow(t, tracker, dialer.Dialer{TCP: p}), "[fe80::1%lo]:9000")
				require.Equal(t, "fe80::1", local(c).Addr().WithZone("").String())
				require.Equal(t, 1, p.Stats().InUse)
				resetPlain(c)
				require.Eventually(t, func() bool { return p.Stats().InUse == 0 }, soon, time.Millisecond)
			})
		}
	}
}

// An IPv4 link-local address works like any other: without a device, and with a known TIME_WAIT.
func TestIPv4LinkLocalDestination(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	netns.AddAddr(t, netip.MustParsePrefix("169.254.169.254/32"))
	to := listen(t, "tcp", "169.254.169.254:9000")
	p := pool("20000-20009")
	tracker := newTracker(t)
	for _, raw := range []*dialer.Tracker{nil, tracker} {
		c, err := (&dialer.Dialer{TCP: p, Tracker: raw}).Dial("tcp", to.addr())
		require.NoError(t, err)
		a := to.accept(t, c)
		require.NoError(t, a.SetLinger(0))
		require.NoError(t, a.Close())
		awaitReset(t, c)
		require.NoError(t, c.Close())
		require.Eventually(t, func() bool { return p.Stats() == tuple.Stats{} }, soon, time.Millisecond)
	}
}
