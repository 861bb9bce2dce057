package dialer_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// ways are the ways to make a Tracker follow the connections of a Dialer.
var ways = map[string]func(t testing.TB, tracker *dialer.Tracker, d dialer.Dialer) dialFunc{
	"NetDialer": func(t testing.TB, tracker *dialer.Tracker, d dialer.Dialer) dialFunc {
		nd, err := tracker.NetDialer(&d)
		require.NoError(t, err)
		return nd.DialContext
	},
	"Tracker": func(_ testing.TB, tracker *dialer.Tracker, d dialer.Dialer) dialFunc {
		d.Tracker = tracker
		return d.DialContext
	},
}

// newTracker returns a Tracker that is closed when the test ends.
func newTracker(t testing.TB) *dialer.Tracker {
	t.Helper()
	var tracker dialer.Tracker
	t.Cleanup(func() { tracker.Close() })
	return &tracker
}

// plain dials and expects a bare *net.TCPConn, which is closed at the latest when the test ends.
func plain(t testing.TB, dial dialFunc, address string) *net.TCPConn {
	t.Helper()
	c, err := dial(context.Background(), "tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { resetPlain(c) })
	require.IsType(t, (*net.TCPConn)(nil), c)
	return c.(*net.TCPConn)
}

func resetPlain(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// Tracked connections have the bare type, and one port serves several destinations, in both lanes and families. An
// exhausted pool returns an error, and all tuples go back.
func TestTrackedConnectionsShareOnePort(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	tracker := newTracker(t)
	for way, follow := range ways {
		for _, port := range []string{"40100", "20100"} {
			for _, family := range []struct{ listen, source string }{
				{"127.0.0.1:0", ""}, {"127.0.0.1:0", "127.0.0.1/32"}, {"[::1]:0", ""}, {"[::1]:0", "::1/128"},
			} {
				t.Run(fmt.Sprint(way, port, family), func(t *testing.T) {
					p := pool(port)
					if family.source != "" {
						p = pool(port, family.source)
					}
					dial := follow(t, tracker, dialer.Dialer{TCP: p})
					var conns []*net.TCPConn
					var to *peer
					for range 3 {
						to = listen(t, "tcp", family.listen)
						c := plain(t, dial, to.addr())
						require.Equal(t, port, fmt.Sprint(local(c).Port()))
						require.True(t, p.Contains(tuple.From(local(c), to.addrPort())))
						a := to.accept(t, c)
						_, err := c.Write([]byte("x"))
						require.NoError(t, err)
						_, err = a.Read(make([]byte, 1))
						require.NoError(t, err)
						conns = append(conns, c)
					}
					require.Equal(t, tuple.Stats{InUse: 3, Destinations: 3}, p.Stats())
					_, err := dial(context.Background(), "tcp", to.addr())
					require.ErrorIs(t, err, tuple.ErrExhausted)
					require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
					for _, c := range conns {
						resetPlain(c)
					}
					requireEmpty(t, p)
				})
			}
		}
	}
}

// After a passive close or a reset, the tuple is free once the socket is gone. After an active close it cools down for
// the 60 seconds of TIME_WAIT, as in the kernel.
func TestTrackedTupleRestsAsTimeWaitDemands(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999", "net.ipv4.tcp_tw_reuse=0") {
		return
	}
	tracker := newTracker(t)
	to := listen(t, "tcp", "127.0.0.1:9000")
	source := 0 // each case uses its own source, because of TIME_WAIT
	for way, follow := range ways {
		for _, port := range []string{"40100", "20100"} {
			for name, c := range map[string]struct {
				end  func(ours, theirs *net.TCPConn)
				rest time.Duration
			}{
				"peer first": {func(ours, theirs *net.TCPConn) { theirs.Close(); awaitFIN(t, ours); ours.Close() }, 0},
				"peer reset": {func(ours, theirs *net.TCPConn) {
					resetPlain(theirs)
					awaitReset(t, ours)
					ours.Close()
				}, 0},
				"we reset": {func(ours, theirs *net.TCPConn) { resetPlain(ours) }, 0},
				"we first": {func(ours, theirs *net.TCPConn) {
					ours.Close()
					awaitFIN(t, theirs)
					theirs.Close()
				}, time.Minute},
			} {
				t.Run(fmt.Sprint(way, port, name), func(t *testing.T) {
					var rests atomic.Pointer[time.Duration]
					source++
					p := pool(port, fmt.Sprintf("127.0.1.%d/32", source))
					p.Trace = &tuple.Trace{Retired: func(_ tuple.Tuple, d time.Duration) { rests.Store(&d) }}
					ours := plain(t, follow(t, tracker, dialer.Dialer{TCP: p}), to.addr())
					tu := tuple.From(local(ours), to.addrPort())
					theirs := to.accept(t, ours)
					require.Equal(t, 1, p.Stats().InUse)
					c.end(ours, theirs)
					require.Eventually(t, func() bool { return p.Stats().InUse == 0 }, soon, time.Millisecond)
					if c.rest == 0 {
						require.Equal(t, tuple.Stats{}, p.Stats())
						require.Zero(t, kernelState(t, tu, to))
						return
					}
					require.Eventually(t, func() bool { return rests.Load() != nil }, soon, time.Millisecond)
					require.InDelta(t, c.rest, *rests.Load(), float64(5*time.Second),
						"the kernel has said what is left")
					require.True(t, p.Contains(tu))
					require.Equal(t, sockdiag.TimeWait, kernelState(t, tu, to))
				})
			}
		}
	}
}

// A tuple is in use while any descriptor of the socket is open, not only that of the connection.
func TestTrackedTupleIsInUseWhileTheSocketIsOpen(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	tracker := newTracker(t)
	to := listen(t, "tcp", "127.0.0.1:9000")
	p := pool("40000")
	c := plain(t, ways["NetDialer"](t, tracker, dialer.Dialer{TCP: p}), to.addr())
	file, err := c.File()
	require.NoError(t, err)
	c.SetLinger(0)
	c.Close()
	other := pool("20000") // a later ending is reported later
	resetPlain(plain(t, ways["NetDialer"](t, tracker, dialer.Dialer{TCP: other}), to.addr()))
	requireEmpty(t, other)
	require.Equal(t, 1, p.Stats().InUse)
	file.Close()
	requireEmpty(t, p)
}

// If other programs have all tuples except one, a tracked dial finds that one, behind the descriptor that net.Dialer
// knows. The caller's Control has seen every socket.
func TestTrackedDialMissesNoFreeTuple(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999",
		"net.ipv4.tcp_tw_reuse=0", "net.ipv4.tcp_timestamps=0") {
		return
	}
	const n = 8
	tracker := newTracker(t)
	ways["NetDialer"](t, tracker, dialer.Dialer{}) // opens what the Tracker listens to
	opened := openSockets(t)
	port := uint16(0)
	for _, first := range []uint16{40000, 20000} {
		for how, hold := range map[string]others{
			"explicitly":                explicit(false),
			"explicitly with REUSEADDR": explicit(true),
			"by TIME_WAIT":              predecessor,
		} {
			for _, listenOn := range []string{"127.0.0.1:9000", "[::1]:9000"} {
				port += n
				first := first + port
				t.Run(fmt.Sprint(first, how, listenOn), func(t *testing.T) {
					to := listen(t, "tcp", listenOn)
					for p := first; p < first+n-1; p++ {
						hold(t, to, p)
					}
					p := pool(fmt.Sprintf("%d-%d", first, first+n-1))
					var sockets atomic.Int32
					dial := ways["NetDialer"](t, tracker, dialer.Dialer{TCP: p, NetDialer: counted(&sockets)})
					c := plain(t, dial, to.addr())
					require.Equal(t, first+n-1, local(c).Port(), "the last free port")
					require.Equal(t, 1, p.Stats().InUse)
					require.LessOrEqual(t, p.Stats().Taken, n-1)

					_, err := dial(context.Background(), "tcp", to.addr())
					require.ErrorIs(t, err, tuple.ErrExhausted)
					require.ErrorContains(t, err, fmt.Sprintf("(1 in use, %d taken", n-1))
					resetPlain(c)
					require.Eventually(t, func() bool { return p.Stats().InUse == 0 }, soon, time.Millisecond)
				})
			}
		}
	}
	require.Eventually(t, func() bool { return openSockets(t) <= opened }, soon, time.Millisecond,
		"no refused socket is left")
}

// A tracked dial to a port of its own pool without a listener does not connect the socket to itself.
func TestTrackedDialDoesNotConnectToItself(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	tracker := newTracker(t)
	for _, ip := range []string{"127.0.0.1", "[::1]"} {
		for _, first := range []int{40000, 20000} {
			to := fmt.Sprintf("%s:%d", ip, first)
			alone := pool(fmt.Sprint(first))
			_, err := ways["NetDialer"](t, tracker, dialer.Dialer{TCP: alone})(context.Background(), "tcp", to)
			require.ErrorIs(t, err, tuple.ErrExhausted)
			require.Zero(t, alone.Stats().InUse)
			for range 5 {
				two := pool(fmt.Sprintf("%d-%d", first, first+1))
				_, err = ways["NetDialer"](t, tracker, dialer.Dialer{TCP: two})(context.Background(), "tcp", to)
				require.ErrorIs(t, err, syscall.ECONNREFUSED)
				require.Eventually(t, func() bool { return two.Stats().InUse == 0 }, soon, time.Millisecond)
			}
		}
	}
}

// However the sysctl changes, a tracked connection has the port of its tuple.
func TestTrackedDialWhenTheRangeChanges(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	tracker := newTracker(t)
	to := listen(t, "tcp", "127.0.0.1:9000")
	p := pool("40100")
	dial := ways["NetDialer"](t, tracker, dialer.Dialer{TCP: p})
	for _, ports := range []string{"40000 40999", "50000 50999", "40000 40999"} {
		quietSysctl(t, "net.ipv4.ip_local_port_range", ports)
		c := plain(t, dial, to.addr())
		require.EqualValues(t, 40100, local(c).Port())
		resetPlain(c)
		requireEmpty(t, p)
	}
}

// Sources, LocalAddr, Owner and Wait apply to tracked dials, and a Control that binds decides the tuple.
func TestTrackedDialHonoursTheDialer(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	tracker := newTracker(t)
	to := listen(t, "tcp", "127.0.0.1:9000")
	for _, ports := range []string{"40000-40009", "20000-20009"} {
		p := pool(ports, "127.0.0.2/31")
		dial := ways["NetDialer"](t, tracker, dialer.Dialer{TCP: p})
		sources := []string{
			local(plain(t, dial, to.addr())).Addr().String(), local(plain(t, dial, to.addr())).Addr().String(),
		}
		require.ElementsMatch(t, []string{"127.0.0.2", "127.0.0.3"}, sources)
		_, err := dial(context.Background(), "tcp", "[::1]:9000")
		require.ErrorContains(t, err, "source")

		p = pool(ports)
		nd := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 7)}}
		dial = ways["NetDialer"](t, tracker, dialer.Dialer{TCP: p, NetDialer: nd})
		require.Equal(t, "127.0.0.7", local(plain(t, dial, to.addr())).Addr().String())
		_, err = dial(context.Background(), "tcp", "[::1]:9000")
		require.ErrorContains(t, err, "another address family")
		require.Equal(t, 1, p.Stats().InUse)

		dial = ways["NetDialer"](t, tracker, dialer.Dialer{TCP: pool(ports, "192.0.2.1/32")})
		_, err = dial(context.Background(), "tcp", to.addr())
		require.ErrorContains(t, err, "the source address is not on this host")

		p = pool(ports[:5])
		p.MaxPerOwner = 1
		dial = ways["NetDialer"](t, tracker, dialer.Dialer{TCP: p, Owner: "somebody", Wait: -1})
		first := plain(t, dial, to.addr())
		time.AfterFunc(10*time.Millisecond, func() { resetPlain(first) })
		plain(t, dial, to.addr()) // waits for it
		dial = ways["NetDialer"](t, tracker, dialer.Dialer{TCP: p, Owner: "somebody", Wait: time.Millisecond})
		_, err = dial(context.Background(), "tcp", to.addr())
		isTimeout(t, err)
	}
}

// Every form of the local system's address is a destination like any other.
func TestTrackedDialOfTheLocalSystem(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	tracker := newTracker(t)
	listen(t, "tcp", "127.0.0.1:9000")
	listen(t, "tcp", "[::1]:9000")
	p := pool("40000")
	dial := ways["NetDialer"](t, tracker, dialer.Dialer{TCP: p})
	for _, c := range []struct{ network, address, key string }{
		{"tcp", ":9000", "127.0.0.1:9000"}, {"tcp4", "0.0.0.0:9000", "127.0.0.1:9000"}, {"tcp6", ":9000", "[::1]:9000"},
	} {
		conn, err := dial(context.Background(), c.network, c.address)
		require.NoError(t, err, c)
		require.Equal(t, 1, p.Usage(netip.MustParseAddrPort(c.key)).InUse, c)
		resetPlain(conn)
		requireEmpty(t, p)
	}
}

// Other networks pass with the caller's Control. A Tracker refuses what it cannot do before it dials.
func TestTrackerRefusesWhatItCannotDo(t *testing.T) {
	var sockets atomic.Int32
	tracker := newTracker(t)
	nd := counted(&sockets)
	p := pool("40000")
	made, err := tracker.NetDialer(&dialer.Dialer{TCP: p, NetDialer: nd})
	require.NoError(t, err)
	c, err := made.Dial("udp", "127.0.0.1:9")
	require.NoError(t, err)
	require.IsType(t, (*net.UDPConn)(nil), c)
	c.Close()
	require.EqualValues(t, 1, sockets.Load())
	require.Equal(t, tuple.Stats{}, p.Stats())

	multipath := new(net.Dialer)
	multipath.SetMultipathTCP(true)
	_, err = tracker.NetDialer(&dialer.Dialer{NetDialer: multipath})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = (&dialer.Dialer{NetDialer: multipath, Tracker: tracker}).Dial("tcp", "127.0.0.1:9")
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = tracker.NetDialer(&dialer.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{Port: 40000}}})
	require.ErrorContains(t, err, "has a port")
	_, err = tracker.NetDialer(&dialer.Dialer{NetDialer: &net.Dialer{LocalAddr: new(net.UDPAddr)}})
	require.Error(t, err)
}

// After Close nothing is dialled and nothing is in use. Tuples of open sockets cool down, and those of sockets that are
// gone unheard are free.
func TestTrackerClose(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	var unused dialer.Tracker
	require.NoError(t, unused.Close())
	_, err := unused.NetDialer(new(dialer.Dialer))
	require.ErrorIs(t, err, net.ErrClosed)

	to := listen(t, "tcp", "127.0.0.1:9000")
	for range 20 { // Close comes before the message or after it
		var tracker dialer.Tracker
		p := pool("40000-40999")
		var dials []dialFunc
		for _, way := range slices.Sorted(func(yield func(string) bool) {
			for w := range ways {
				yield(w)
			}
		}) {
			dials = append(dials, ways[way](t, &tracker, dialer.Dialer{TCP: p}))
		}
		open := plain(t, dials[0], to.addr())
		resetPlain(plain(t, dials[1], to.addr()))
		var both sync.WaitGroup
		var errs [2]error
		for i := range errs {
			both.Go(func() { errs[i] = tracker.Close() })
		}
		both.Wait()
		require.ErrorIs(t, errors.Join(errs[:]...), net.ErrClosed)
		require.True(t, errs[0] == nil || errs[1] == nil)
		require.Equal(t, tuple.Stats{Retired: 1, Destinations: 1}, p.Stats())
		require.True(t, p.Contains(tuple.From(local(open), to.addrPort())))
		for _, dial := range dials {
			_, err := dial(context.Background(), "tcp", to.addr())
			require.ErrorIs(t, err, net.ErrClosed)
		}
		require.Zero(t, p.Stats().InUse)
		resetPlain(open)
	}
}
