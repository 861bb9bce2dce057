package dialer_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

const never = time.Hour // longer than any test runs

// bothFamilies resolves both.test to ::1 and 127.0.0.1, in the order of RFC 6724.
var bothFamilies = hosts{"both.test": {"127.0.0.1", "::1"}}

// raceDialer returns a Dialer with its own pool, and a function that lists what was dialled, in order.
func raceDialer(ports string, delay time.Duration) (d *dialer.Dialer, dialled func() []string) {
	var mu sync.Mutex
	var addrs []string
	nd := &net.Dialer{
		Resolver:      bothFamilies.resolver(),
		FallbackDelay: delay,
		Control: func(_, address string, _ syscall.RawConn) error {
			mu.Lock()
			defer mu.Unlock()
			addrs = append(addrs, address)
			return nil
		},
	}
	return &dialer.Dialer{NetDialer: nd, TCP: pool(ports)}, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return addrs
	}
}

// If the first family is silent, the dial tries the other one after FallbackDelay, and the tuple of the first one goes
// back.
func TestSilentFamilyFallsBackAfterTheDelay(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	blackhole(t, "[::1]:9000")
	listen(t, "tcp", "127.0.0.1:9000")
	for _, delay := range []time.Duration{0, 20 * time.Millisecond} {
		d, dialled := raceDialer("40000-40999", delay)
		c := dial(t, d, "both.test:9000")
		require.Equal(t, []string{"[::1]:9000", "127.0.0.1:9000"}, dialled())
		require.Equal(t, "127.0.0.1:9000", c.RemoteAddr().String())
		require.Eventually(t, func() bool { return d.TCP.Stats().InUse == 1 }, soon, time.Millisecond)
		reset(c)
		require.Equal(t, tuple.Stats{}, d.TCP.Stats())
	}
}

// If the first family refuses, the dial tries the other one without waiting for FallbackDelay.
func TestRefusedFamilyFallsBackAtOnce(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	listen(t, "tcp", "127.0.0.1:9000")
	d, dialled := raceDialer("40000-40999", never)
	c := dial(t, d, "both.test:9000")
	require.Equal(t, []string{"[::1]:9000", "127.0.0.1:9000"}, dialled())
	reset(c)
	requireEmpty(t, d.TCP)
}

// With a negative FallbackDelay the addresses are tried one after the other, each with its share of the time.
func TestNegativeFallbackDelayIsSerial(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	blackhole(t, "[::1]:9000")
	listen(t, "tcp", "127.0.0.1:9000")
	d, dialled := raceDialer("40000-40999", -1)
	d.NetDialer.Timeout = 3 * time.Second
	p := d.TCP
	d.NetDialer.ControlContext = func(_ context.Context, network, address string, c syscall.RawConn) error {
		if s := p.Stats(); s.InUse != 1 {
			t.Errorf("%+v while one address is tried", s)
		}
		return d.NetDialer.Control(network, address, c)
	}
	c := dial(t, d, "both.test:9000") // the first address gets two of the three seconds
	require.Equal(t, []string{"[::1]:9000", "127.0.0.1:9000"}, dialled())
	require.Equal(t, tuple.Stats{InUse: 1, Destinations: 1}, p.Stats())
	reset(c)
}

// If no address answers, the error is that of the first one, in a race and in turn.
func TestErrorIsTheFirstAddresss(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	for _, delay := range []time.Duration{never, time.Nanosecond, -1} {
		d, _ := raceDialer("40000-40999", delay)
		_, err := d.Dial("tcp", "both.test:9000")
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		var op *net.OpError
		require.True(t, errors.As(err, &op))
		require.Equal(t, "[::1]:9000", op.Addr.String())
		require.Equal(t, tuple.Stats{}, d.TCP.Stats())
	}
}

// While several addresses are tried at once, each has its own tuple. When the dial ends, none has.
func TestEachAttemptHasItsOwnTuple(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	blackhole(t, "[::1]:9000")
	blackhole(t, "127.0.0.1:9000")
	for _, ports := range []string{"40000", "20000"} { // one port for both
		d, dialled := raceDialer(ports, time.Millisecond)
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		all.Go(func() {
			_, err := d.DialContext(ctx, "tcp", "both.test:9000")
			require.ErrorIs(t, err, context.Canceled)
		})
		require.Eventually(t, func() bool { return len(dialled()) == 2 }, soon, time.Millisecond)
		require.Equal(t, tuple.Stats{InUse: 2, Destinations: 2}, d.TCP.Stats())
		cancel()
		all.Wait()
		requireEmpty(t, d.TCP)
	}
}

// Addresses of a family in which the pool has no source are left out.
func TestAddressesWithoutSourceAreLeftOut(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	listen(t, "tcp", "127.0.0.1:9000")
	listen(t, "tcp", "[::1]:9000")
	for source, want := range map[string]string{"127.0.0.1/32": "127.0.0.1:9000", "::1/128": "[::1]:9000"} {
		d, dialled := raceDialer("40000-40999", 0)
		d.TCP.Sources = []netip.Prefix{netip.MustParsePrefix(source)}
		reset(dial(t, d, "both.test:9000"))
		require.Equal(t, []string{want}, dialled())
	}
}
