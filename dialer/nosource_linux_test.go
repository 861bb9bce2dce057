package dialer_test

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// ip runs a command of iproute2 in the private network. It skips the test if there is none, or if the kernel lacks the
// feature.
func ip(t *testing.T, command string, args ...any) {
	t.Helper()
	path, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("this test needs iproute2")
	}
	command = fmt.Sprintf(command, args...)
	out, err := exec.Command(path, strings.Fields(command)...).CombinedOutput()
	if err != nil {
		t.Skipf("ip %s: %v: %s", command, err, out)
	}
}

// newDevice makes a network device without an address. Both of its ends are up.
func newDevice(t *testing.T, name string) {
	t.Helper()
	ip(t, "link add %s type veth peer name %s-peer", name, name)
	for _, end := range []string{name, name + "-peer"} {
		quietSysctl(t, "net.ipv6.conf."+end+".addr_gen_mode", "1") // no link-local address
		ip(t, "link set %s up", end)
	}
}

// onDevice returns a net.Dialer that binds its sockets to a device and counts them.
func onDevice(device string, sockets *atomic.Int32) *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		sockets.Add(1)
		control := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) })
		if control != nil {
			return control
		}
		return err
	}}
}

// A socket on a device without a source address fails as with net.Dialer: after one try, and no tuple is taken. Another
// device reaches the same destination.
func TestNoSourceOnTheDeviceIsTheError(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	newDevice(t, "near")
	newDevice(t, "bare")
	quietSysctl(t, "net.ipv6.conf.bare.use_oif_addrs_only", "1")
	ip(t, "addr add 2001:db8:1::1/64 dev near nodad")
	ip(t, "route add 2001:db8:2::/64 dev near metric 100")
	ip(t, "route add 2001:db8:2::/64 dev bare metric 5000")
	const to = "[2001:db8:2::2]:443"
	var sockets atomic.Int32
	_, want := onDevice("bare", &sockets).Dial("tcp", to)
	require.ErrorIs(t, want, syscall.EADDRNOTAVAIL)
	for name, p := range map[string]*tuple.Pool{
		"of the host": nil, "zero": new(tuple.Pool),
		"range lane": pool("40000-40999"), "bind lane": pool("20000-20999"),
	} {
		for _, network := range []string{"tcp", "udp"} {
			sockets.Store(0)
			_, err := (&dialer.Dialer{TCP: p, UDP: p, NetDialer: onDevice("bare", &sockets)}).Dial(network, to)
			require.ErrorIs(t, err, syscall.EADDRNOTAVAIL, "%s, %s", name, network)
			require.NotErrorIs(t, err, tuple.ErrExhausted)
			require.Equal(t, strings.Replace(want.Error(), "tcp", network, 1), err.Error())
			require.EqualValues(t, 1, sockets.Load(), "%s, %s: one try", name, network)
			if p != nil {
				require.Equal(t, tuple.Stats{}, p.Stats())
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := (&dialer.Dialer{TCP: p}).DialContext(ctx, "tcp", to)
		cancel()
		isTimeout(t, err) // nobody answers there
	}
}

// sourceError dials from a source and returns the error. It requires one try, and that no tuple is taken.
func sourceError(t *testing.T, source, to string) error {
	t.Helper()
	p := pool("40000-40999,20000-20999", source)
	var sockets atomic.Int32
	_, err := (&dialer.Dialer{TCP: p, NetDialer: counted(&sockets)}).Dial("tcp", to)
	require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
	require.NotErrorIs(t, err, tuple.ErrExhausted)
	require.EqualValues(t, 1, sockets.Load())
	require.Equal(t, tuple.Stats{}, p.Stats())
	return err
}

// An address that duplicate address detection forbids has its own error text: wait, or use another address.
func TestTentativeSourceIsNamed(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	newDevice(t, "near")
	quietSysctl(t, "net.ipv6.conf.near.dad_transmits", "60") // a minute
	ip(t, "addr add 2001:db8:1::1/64 dev near")
	err := sourceError(t, "2001:db8:1::1/128", "[2001:db8:1::2]:443")
	require.ErrorContains(t, err, "the source address is tentative")
	require.NotContains(t, err.Error(), "not on this host")

	newDevice(t, "twice")
	ip(t, "addr add 2001:db8:3::1/64 dev twice-peer nodad")
	ip(t, "addr add 2001:db8:3::1/64 dev twice")
	require.Eventually(t, func() bool {
		out, _ := exec.Command("ip", "addr", "show", "dev", "twice", "dadfailed").Output()
		return strings.Contains(string(out), "2001:db8:3::1")
	}, soon, 10*time.Millisecond)
	ip(t, "addr del 2001:db8:3::1/64 dev twice-peer")
	err = sourceError(t, "2001:db8:3::1/128", "[2001:db8:3::2]:443")
	require.ErrorContains(t, err, "another host has the source address")
}

// A source in a VRF has its own error text if the socket is not in the VRF: bind the socket to the VRF.
func TestSourceInAVRFIsNamed(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	ip(t, "link add red type vrf table 10")
	ip(t, "link set red up")
	newDevice(t, "near")
	ip(t, "link set near master red")
	ip(t, "addr add 198.18.9.1/24 dev near")
	err := sourceError(t, "198.18.9.1/32", "198.18.9.2:443")
	require.ErrorContains(t, err, "the source address is in a VRF")
	require.ErrorContains(t, err, `"red"`)
}
