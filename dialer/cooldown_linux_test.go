package dialer_test

import (
	"context"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// waysOut are the ways in which the use of a tuple can end: by Close, or unknown to the Dialer. Each ends the use of
// one tuple of d.TCP towards the peer.
var waysOut = map[string]func(t *testing.T, d *dialer.Dialer, to *peer){
	"garbage-collected": func(t *testing.T, d *dialer.Dialer, to *peer) {
		_, err := d.Dial("tcp", to.addr())
		require.NoError(t, err)
		require.Eventually(t, func() bool { runtime.GC(); return d.TCP.Stats().InUse == 0 }, soon, time.Millisecond)
	},
	"Tracker.Close": func(t *testing.T, d *dialer.Dialer, to *peer) {
		tracked := *d
		tracked.Tracker = new(dialer.Tracker)
		c, err := tracked.Dial("tcp", to.addr())
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		require.NoError(t, tracked.Tracker.Close())
	},
	"Goexit in Control": func(t *testing.T, d *dialer.Dialer, to *peer) {
		leaving := *d
		leaving.NetDialer = &net.Dialer{Control: func(string, string, syscall.RawConn) error {
			runtime.Goexit()
			return nil
		}}
		var all sync.WaitGroup
		all.Go(func() { leaving.Dial("tcp", to.addr()) })
		all.Wait()
	},
	"closed by its owner": func(t *testing.T, d *dialer.Dialer, to *peer) {
		c := dial(t, d, to.addr())
		a := to.accept(t, c)
		require.NoError(t, c.Close())
		awaitFIN(t, a)
		require.NoError(t, a.Close())
	},
	"the bare connection closed": func(t *testing.T, d *dialer.Dialer, to *peer) {
		c := dial(t, d, to.addr())
		a := to.accept(t, c)
		require.NoError(t, c.NetConn().Close())
		awaitFIN(t, a)
		require.NoError(t, a.Close())
		require.Error(t, c.Close())
	},
}

// In every way out, a tuple cools down for the time in the pool's CoolDown. If that is negative, it is free at once.
func TestEveryWayOutFollowsTheCoolDown(t *testing.T) {
	for name, leave := range waysOut {
		for _, ports := range []string{"40000-40009", "20000-20009"} {
			for _, closedHere := range []time.Duration{7 * time.Second, -1} {
				t.Run(name+" "+ports+" "+closedHere.String(), func(t *testing.T) {
					if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
						return
					}
					to := listen(t, "tcp", "127.0.0.1:9000")
					p := pool(ports)
					p.CoolDown.ActiveClose = closedHere
					var mu sync.Mutex
					var retired []time.Duration
					p.Trace = &tuple.Trace{Retired: func(_ tuple.Tuple, d time.Duration) {
						mu.Lock()
						defer mu.Unlock()
						retired = append(retired, d)
					}}
					leave(t, &dialer.Dialer{TCP: p}, to)
					require.Zero(t, p.Stats().InUse)
					told := func() []time.Duration {
						mu.Lock()
						defer mu.Unlock()
						return retired
					}
					if closedHere < 0 {
						require.Empty(t, told())
						require.Equal(t, tuple.Stats{}, p.Stats())
						return
					}
					// The hook runs after the tuple is retired.
					require.Eventually(t, func() bool { return len(told()) > 0 }, soon, time.Millisecond)
					require.Equal(t, []time.Duration{closedHere}, told())
				})
			}
		}
	}
}

// A dial that ends before a packet was sent (by a panic, an error or its context) leaves its tuple free at once,
// whatever the CoolDown is.
func TestDialThatSentNothingLeavesNothing(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, ports := range []string{"40000-40009", "20000-20009"} {
		p := pool(ports)
		p.CoolDown = tuple.CoolDown{
			ActiveClose: 7 * time.Second, Reset: 7 * time.Second, NeverEstablished: 7 * time.Second,
		}
		control := func(f func() error) *dialer.Dialer {
			return &dialer.Dialer{TCP: p, NetDialer: &net.Dialer{
				Control: func(string, string, syscall.RawConn) error { return f() },
			}}
		}
		require.Panics(t, func() { control(func() error { panic("Control") }).Dial("tcp", to.addr()) })
		_, err := control(func() error { return os.ErrInvalid }).Dial("tcp", to.addr())
		require.ErrorIs(t, err, os.ErrInvalid)
		_, err = (&dialer.Dialer{TCP: p}).DialContext(ended, "tcp", to.addr())
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, tuple.Stats{}, p.Stats())
	}
}

// The tuple of a dial that is cancelled before an answer cools down for CoolDown.NeverEstablished.
func TestCancelledDialFollowsTheCoolDown(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	silent := blackhole(t, "127.0.0.1:9001")
	for _, port := range []string{"40000", "20000"} {
		for _, never := range []time.Duration{7 * time.Second, -1} {
			p := pool(port)
			p.CoolDown = tuple.CoolDown{ActiveClose: 9 * time.Second, NeverEstablished: never}
			var retired []time.Duration
			p.Trace = &tuple.Trace{Retired: func(_ tuple.Tuple, d time.Duration) { retired = append(retired, d) }}
			ctx, cancel := context.WithCancel(t.Context())
			d := &dialer.Dialer{TCP: p, NetDialer: &net.Dialer{Control: func(string, string, syscall.RawConn) error {
				time.AfterFunc(5*time.Millisecond, cancel)
				return nil
			}}}
			_, err := d.DialContext(ctx, "tcp", silent)
			require.ErrorIs(t, err, context.Canceled)
			if never < 0 {
				require.Empty(t, retired)
			} else {
				require.Equal(t, []time.Duration{never}, retired)
			}
		}
	}
}

// A connection with TCP_FASTOPEN_CONNECT and without a write never sent a packet. Its tuple cools down for
// CoolDown.NeverEstablished.
func TestFastOpenThatSentNothingIsNeverEstablished(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999", "net.ipv4.tcp_fastopen=5") { // 4: without a cookie
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	nd := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		control := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1)
		})
		if control != nil {
			return control
		}
		return err
	}}
	for _, port := range []string{"40000", "20000"} {
		p := pool(port)
		p.CoolDown = tuple.CoolDown{
			ActiveClose: 9 * time.Second, PassiveClose: 8 * time.Second, NeverEstablished: 7 * time.Second,
		}
		var retired []time.Duration
		p.Trace = &tuple.Trace{Retired: func(_ tuple.Tuple, d time.Duration) { retired = append(retired, d) }}
		c := dial(t, &dialer.Dialer{TCP: p, NetDialer: nd}, to.addr())
		require.NoError(t, c.Close())
		require.Equal(t, []time.Duration{7 * time.Second}, retired)
	}
	require.Empty(t, to.conns, "nothing was sent")
}
