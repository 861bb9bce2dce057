package dialer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
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

// However a dial fails, its tuple is free afterwards and its socket is closed.
func TestFailedDialGivesItsTupleBack(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	listen(t, "tcp", "127.0.0.1:9000")
	silent := blackhole(t, "127.0.0.1:9001")
	const refused = "127.0.0.1:9002"
	names := hosts{"silent.test": {"127.0.0.1"}}.resolver()
	background := func(*testing.T, *net.Dialer) context.Context { return context.Background() }
	boom := errors.New("boom")

	for _, c := range []struct {
		name, address string
		set           func(*testing.T, *net.Dialer) context.Context
		want          func(*testing.T, error)
	}{
		{"name not found", "nowhere.test:9000", background, func(t *testing.T, err error) {
			var dns *net.DNSError
			require.True(t, errors.As(err, &dns))
			require.True(t, dns.IsNotFound)
		}},
		{"refused", refused, background, isError(syscall.ECONNREFUSED)},
		{"no route", "192.0.2.1:80", background, isError(syscall.ENETUNREACH)},
		{"context's deadline", silent, func(t *testing.T, _ *net.Dialer) context.Context {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			t.Cleanup(cancel)
			return ctx
		}, isTimeout},
		{"cancelled", "silent.test:9001", func(_ *testing.T, nd *net.Dialer) context.Context {
			ctx, cancel := context.WithCancel(context.Background())
			nd.ControlContext = func(context.Context, string, string, syscall.RawConn) error {
				time.AfterFunc(time.Millisecond, cancel)
				return nil
			}
			return ctx
		}, isError(context.Canceled)},
		{"cancelled before", silent, func(*testing.T, *net.Dialer) context.Context {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return ctx
		}, isError(context.Canceled)},
		{"Timeout", silent, func(_ *testing.T, nd *net.Dialer) context.Context {
			nd.Timeout = 20 * time.Millisecond
			return context.Background()
		}, isTimeout},
		{"Timeout that is negative", silent, func(_ *testing.T, nd *net.Dialer) context.Context {
			nd.Timeout = -1
			return context.Background()
		}, isTimeout},
		{"Deadline", silent, func(_ *testing.T, nd *net.Dialer) context.Context {
			nd.Deadline = time.Now().Add(20 * time.Millisecond)
			return context.Background()
		}, isTimeout},
		{"Cancel", silent, func(_ *testing.T, nd *net.Dialer) context.Context {
			c := make(chan struct{})
			//lint:ignore SA1019 it is deprecated, but a drop-in honours it
			nd.Cancel = c
			time.AfterFunc(10*time.Millisecond, func() { close(c) })
			return context.Background()
		}, isError(context.Canceled)},
		{"Control", silent, func(_ *testing.T, nd *net.Dialer) context.Context {
			nd.Control = func(string, string, syscall.RawConn) error { return boom }
			return context.Background()
		}, isError(boom)},
		{"ControlContext", silent, func(_ *testing.T, nd *net.Dialer) context.Context {
			nd.ControlContext = func(context.Context, string, string, syscall.RawConn) error { return boom }
			return context.Background()
		}, isError(boom)},
		{"Control that returns EADDRNOTAVAIL", silent, func(_ *testing.T, nd *net.Dialer) context.Context {
			nd.Control = func(string, string, syscall.RawConn) error { return syscall.EADDRNOTAVAIL }
			return context.Background()
		}, isError(syscall.EADDRNOTAVAIL)},
	} {
		for _, ports := range []string{"40000", "20000"} { // one port: who does not get it back cannot go on
			for _, multipath := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/port=%s/multipath=%t", c.name, ports, multipath), func(t *testing.T) {
					p := pool(ports)
					for range 3 {
						nd := &net.Dialer{Resolver: names}
						nd.SetMultipathTCP(multipath)
						ctx := c.set(t, nd)
						sockets := openSockets(t)
						_, err := (&dialer.Dialer{TCP: p, NetDialer: nd}).DialContext(ctx, "tcp", c.address)
						require.Error(t, err)
						require.NotErrorIs(t, err, tuple.ErrExhausted)
						c.want(t, err)
						require.Equal(t, tuple.Stats{}, p.Stats())
						require.LessOrEqual(t, openSockets(t), sockets)
					}
				})
			}
		}
	}
}

func isError(target error) func(*testing.T, error) {
	return func(t *testing.T, err error) { require.ErrorIs(t, err, target) }
}

func isTimeout(t *testing.T, err error) {
	var e net.Error
	require.True(t, errors.As(err, &e))
	require.True(t, e.Timeout(), "%v", err)
}

// The tuple goes back only after close(2). With one tuple for all, the next dial would otherwise meet the socket of the
// one before, and the tuple would become taken.
func TestTupleComesBackAfterTheSocketIsClosed(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999", "net.ipv4.tcp_tw_reuse=0") {
		return
	}
	dials := 50
	if testing.Short() {
		dials = 10
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	silent := blackhole(t, "127.0.0.1:9001")
	for _, port := range []string{"40000", "20000"} {
		for _, c := range []struct {
			name string
			to   string
			dial func(d *dialer.Dialer, address string)
		}{
			{"refused", "127.0.0.1:9002", func(d *dialer.Dialer, address string) {
				_, err := d.Dial("tcp", address)
				require.ErrorIs(t, err, syscall.ECONNREFUSED)
			}},
			{"timed out", silent, func(d *dialer.Dialer, address string) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				nd := &net.Dialer{Control: func(string, string, syscall.RawConn) error {
					time.AfterFunc(time.Millisecond, cancel)
					return nil
				}}
				_, err := (&dialer.Dialer{TCP: d.TCP, Wait: d.Wait, NetDialer: nd}).DialContext(ctx, "tcp", address)
				require.ErrorIs(t, err, context.Canceled)
			}},
			{"reset by us", to.addr(), func(d *dialer.Dialer, address string) {
				c, err := d.Dial("tcp", address)
				require.NoError(t, err)
				reset(c.(*dialer.TCPConn))
				(<-to.conns).Close()
			}},
		} {
			t.Run(c.name+" from "+port, func(t *testing.T) {
				p := pool(port)
				d := &dialer.Dialer{TCP: p, Wait: -1}
				var all sync.WaitGroup
				for range 8 {
					all.Go(func() {
						for range dials {
							c.dial(d, c.to)
						}
					})
				}
				all.Wait()
				require.Equal(t, tuple.Stats{}, p.Stats(), "no tuple was taken")
			})
		}
	}
}

// A panic in the caller's Control arrives in the caller's goroutine with its value. It leaves no socket and no tuple.
func TestPanicInControl(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	type value struct{ int }
	control := func(string, string, syscall.RawConn) error { panic(value{7}) }
	controlContext := func(context.Context, string, string, syscall.RawConn) error { panic(value{7}) }
	names := hosts{"both.test": {"127.0.0.1", "::1"}}.resolver()
	sockets := openSockets(t)
	for _, ports := range []string{"40000-40001", "20000-20001"} {
		for name, nd := range map[string]*net.Dialer{
			"Control":        {Resolver: names, Control: control},
			"ControlContext": {Resolver: names, ControlContext: controlContext},
			"race":           {Resolver: names, Control: control, FallbackDelay: time.Nanosecond},
		} {
			for _, address := range []string{"127.0.0.1:9000", "both.test:9000"} {
				t.Run(ports+" "+name+" "+address, func(t *testing.T) {
					p := pool(ports)
					d := &dialer.Dialer{TCP: p, NetDialer: nd}
					require.PanicsWithValue(t, value{7}, func() { d.Dial("tcp", address) })
					requireEmpty(t, p)
					require.Eventually(t, func() bool { return openSockets(t) <= sockets }, soon, time.Millisecond)
				})
			}
		}
	}
}

// A Control that ends the goroutine, as testing.T.FailNow does, leaves no tuple in use.
func TestGoexitInControl(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	p := pool("40000")
	d := &dialer.Dialer{TCP: p, NetDialer: &net.Dialer{Control: func(string, string, syscall.RawConn) error {
		runtime.Goexit()
		return nil
	}}}
	var all sync.WaitGroup
	all.Go(func() { d.Dial("tcp", "127.0.0.1:9000") })
	all.Wait()
	require.Zero(t, p.Stats().InUse)

	d.NetDialer.Resolver = hosts{"both.test": {"127.0.0.1", "::1"}}.resolver()
	_, err := d.Dial("tcp", "both.test:9000")
	require.ErrorContains(t, err, "Goexit", "a race ends even so")
	require.Zero(t, p.Stats().InUse)
}

// A dial that is cancelled at any moment returns a connection or gives its tuple back. A tuple in TIME_WAIT is retired.
func TestDialsCancelledAtRandomMoments(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=32768 60999") {
		return
	}
	dials := 1000
	if testing.Short() {
		dials = 300
	}
	const seed = 7
	for i, ports := range []string{"32768-60999", "10000-32767"} {
		to := listenAndHangUp(t, "tcp", fmt.Sprint("127.0.0.1:", 9000+i))
		p := pool(ports)
		random := rand.New(rand.NewPCG(seed, seed))
		d := &dialer.Dialer{TCP: p}
		opened := 0
		for range dials {
			ctx, cancel := context.WithCancel(context.Background())
			timer := time.AfterFunc(time.Duration(random.IntN(100))*time.Microsecond, cancel)
			c, err := d.DialContext(ctx, "tcp", to.Addr().String())
			timer.Stop()
			cancel()
			if err == nil {
				opened++
				reset(c.(*dialer.TCPConn))
			}
		}
		require.Zero(t, p.Stats().InUse)
		requireAgreement(t, "tcp", p)
		t.Logf("seed %d: %d of %d dials succeeded, %d tuples retired", seed, opened, dials, p.Stats().Retired)
	}
}

// Without free file descriptors a dial fails and holds nothing, and the dialer works again afterwards.
func TestDialWithoutFileDescriptors(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: limit.Max})) // what is open stays open
	p := pool("40000-40009")
	d := &dialer.Dialer{TCP: p}
	for range 20 {
		_, err := d.Dial("tcp", to.addr())
		require.ErrorIs(t, err, syscall.EMFILE)
		require.Equal(t, tuple.Stats{}, p.Stats())
	}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	c := dial(t, d, to.addr())
	require.Equal(t, tuple.Stats{InUse: 1, Destinations: 1}, p.Stats())
	reset(c)
	require.Equal(t, dialer.HasRangeLane(), dialer.TakesRangeLane(40000),
		"what could not be read is not taken for an answer")
}

// If a race makes two connections, the loser is closed and gives its tuple back.
func TestLoserOfRaceGivesItsTupleBack(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=32768 60999") {
		return
	}
	races := 500
	if testing.Short() {
		races = 100
	}
	listenAndHangUp(t, "tcp", "127.0.0.1:9000")
	listenAndHangUp(t, "tcp", "[::1]:9000")
	p := pool("32768-60999")
	var sockets atomic.Int32
	nd := counted(&sockets)
	nd.Resolver, nd.FallbackDelay = hosts{"both.test": {"127.0.0.1", "::1"}}.resolver(), time.Nanosecond
	d := &dialer.Dialer{TCP: p, NetDialer: nd}
	for range races {
		reset(dial(t, d, "both.test:9000"))
	}
	require.Eventually(t, func() bool { return p.Stats().InUse == 0 }, soon, time.Millisecond)
	require.Greater(t, int(sockets.Load()), races, "there were races")
	requireAgreement(t, "tcp", p)
}
