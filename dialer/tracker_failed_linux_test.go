package dialer_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// However a tracked dial fails, its tuple goes back. There is only one port, so the test cannot go on otherwise.
func TestTrackedDialThatFailsGivesItsTupleBack(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	tracker := newTracker(t)
	ways["NetDialer"](t, tracker, dialer.Dialer{}) // opens what the Tracker listens to
	silent := blackhole(t, "127.0.0.1:9001")
	boom := errors.New("boom")
	short := func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, 10*time.Millisecond)
	}
	cancelled := func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(5*time.Millisecond, cancel)
		return ctx, cancel
	}
	for name, c := range map[string]struct {
		address string
		limit   func(context.Context) (context.Context, context.CancelFunc)
		control func(string, string, syscall.RawConn) error
		want    func(*testing.T, error)
	}{
		"refused":   {address: "127.0.0.1:9002", want: isError(syscall.ECONNREFUSED)},
		"no route":  {address: "192.0.2.1:80", want: isError(syscall.ENETUNREACH)},
		"timed out": {address: silent, limit: short, want: isTimeout},
		"cancelled": {address: silent, limit: cancelled, want: func(t *testing.T, err error) {
			require.ErrorContains(t, err, "cancel")
		}},
		"Control": {address: silent, want: isError(boom), control: func(string, string, syscall.RawConn) error {
			return boom
		}},
	} {
		for way, follow := range ways {
			for _, port := range []string{"40000", "20000"} {
				t.Run(fmt.Sprint(name, way, port), func(t *testing.T) {
					p := pool(port)
					dial := follow(t, tracker, dialer.Dialer{TCP: p, NetDialer: &net.Dialer{Control: c.control}})
					sockets := openSockets(t)
					for range 3 {
						ctx, cancel := context.Background(), context.CancelFunc(func() {})
						if c.limit != nil {
							ctx, cancel = c.limit(ctx)
						}
						_, err := dial(ctx, "tcp", c.address)
						cancel()
						require.Error(t, err)
						c.want(t, err)
						requireEmpty(t, p)
						require.LessOrEqual(t, openSockets(t), sockets)
					}
				})
			}
		}
	}
	require.Empty(t, tracker.Followed())
}

// A panic of the caller's Control passes through and leaves no tuple in use, in its first call and in the call for the
// socket that replaces a refused one.
func TestTrackedDialWhoseControlPanics(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	tracker := newTracker(t)
	to := listen(t, "tcp", "127.0.0.1:9000")
	for _, port := range []uint16{40000, 20000} {
		explicit(true)(t, to, port)
		for after := range 2 {
			p := pool(fmt.Sprintf("%d-%d", port, port+1)) // another socket has the first port
			calls := 0
			dial := ways["NetDialer"](t, tracker, dialer.Dialer{TCP: p, NetDialer: &net.Dialer{
				Control: func(string, string, syscall.RawConn) error {
					if calls++; calls > after {
						panic("boom")
					}
					return nil
				},
			}})
			require.PanicsWithValue(t, "boom", func() {
				for { // until the dial tries that port first
					calls = 0
					c, err := dial(context.Background(), "tcp", to.addr())
					require.NoError(t, err)
					resetPlain(c)
					require.Eventually(t, func() bool { return p.Stats().InUse == 0 }, soon, time.Millisecond)
				}
			})
			require.Equal(t, tuple.Stats{Taken: after, Destinations: after}, p.Stats(), "the refused one is taken")
		}
	}
}

// Without a descriptor for a second socket, a dial whose tuple is refused fails, and leaves no tuple in use.
func TestTrackedDialWithoutFileDescriptors(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	tracker := newTracker(t)
	to := listen(t, "tcp", "127.0.0.1:9000")
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	restore := func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) }
	t.Cleanup(restore)
	for _, port := range []uint16{40000, 20000} {
		explicit(true)(t, to, port)
		p := pool(fmt.Sprint(port))
		dial := ways["NetDialer"](t, tracker, dialer.Dialer{TCP: p, NetDialer: &net.Dialer{
			Control: func(string, string, syscall.RawConn) error {
				// Open descriptors stay open.
				return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: limit.Max})
			},
		}})
		_, err := dial(context.Background(), "tcp", to.addr())
		require.ErrorIs(t, err, syscall.EMFILE)
		restore()
		require.Eventually(t, func() bool { return p.Stats().InUse == 0 }, soon, time.Millisecond)
	}
}

// The losers of races, and dials that are cancelled at any moment, leave no tuple in use.
func TestTrackedRacesLeaveNothing(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=32768 60999") {
		return
	}
	races := 300
	if testing.Short() {
		races = 50
	}
	tracker := newTracker(t)
	listenAndHangUp(t, "tcp", "127.0.0.1:9000")
	listenAndHangUp(t, "tcp", "[::1]:9000")
	names := hosts{"both.test": {"127.0.0.1", "::1"}}.resolver()
	n := 0
	for way, follow := range ways {
		for _, ports := range []string{"32768-60999", "10000-32767"} {
			n++
			t.Run(way+ports, func(t *testing.T) {
				p := pool(ports)
				p.Ports = p.Ports.Slice(n-1, 2*len(ways)) // each case has its own ports
				dial := follow(t, tracker, dialer.Dialer{TCP: p, NetDialer: &net.Dialer{
					Resolver: names, FallbackDelay: time.Nanosecond,
				}})
				for i := range races {
					ctx, cancel := context.WithCancel(context.Background())
					if i%2 == 1 {
						time.AfterFunc(time.Duration(i)*time.Microsecond, cancel)
					}
					if c, err := dial(ctx, "tcp", "both.test:9000"); err == nil {
						resetPlain(c)
					}
					cancel()
				}
				require.Eventually(t, func() bool { return p.Stats().InUse == 0 }, soon, time.Millisecond)
				requireAgreement(t, "tcp", p)
			})
		}
	}
	require.Empty(t, tracker.Followed())
}

// tls.Dialer and http.Transport can dial with the net.Dialer of a Tracker.
func TestNetDialerServesTLSAndHTTP(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	tracker := newTracker(t)
	p := pool("20000-20003")
	nd, err := tracker.NetDialer(&dialer.Dialer{TCP: p, NetDialer: &net.Dialer{Timeout: soon}})
	require.NoError(t, err)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.RemoteAddr)
	}))
	defer s.Close()
	trusted := s.Client().Transport.(*http.Transport).TLSClientConfig
	trusted.ServerName = "example.com"

	c, err := (&tls.Dialer{NetDialer: nd, Config: trusted}).Dial("tcp", s.Listener.Addr().String())
	require.NoError(t, err)
	require.IsType(t, (*net.TCPConn)(nil), c.(*tls.Conn).NetConn())
	require.Equal(t, 1, p.Stats().InUse)

	transport := &http.Transport{DialContext: nd.DialContext, TLSClientConfig: trusted}
	response, err := (&http.Client{Transport: transport}).Get(s.URL)
	require.NoError(t, err)
	from, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Regexp(t, `:2000[0-3]$`, string(from))
	require.Equal(t, 2, p.Stats().InUse)

	c.Close()
	transport.CloseIdleConnections()
	require.Eventually(t, func() bool { return p.Stats().InUse == 0 }, soon, time.Millisecond)
}

// Without a free descriptor, a Tracker returns an error. It works when there is one again.
func TestTrackerWithoutFileDescriptors(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	d := &dialer.Dialer{TCP: pool("20000-20009")}
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	lowest, err := unix.Dup(0)
	require.NoError(t, err)
	require.NoError(t, unix.Close(lowest))
	for more := range 3 { // fewer than it takes
		tracker := newTracker(t)
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(lowest + more), Max: limit.Max}))
		_, err := tracker.NetDialer(d)
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		if more < 2 {
			require.ErrorIs(t, err, syscall.EMFILE)
		}
		_, err = tracker.NetDialer(d)
		require.NoError(t, err)
		require.NoError(t, tracker.Close())
		again, err := unix.Dup(0)
		require.NoError(t, err)
		require.Equal(t, lowest, again, "no descriptor is lost")
		require.NoError(t, unix.Close(again))
	}
}
