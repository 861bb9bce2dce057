package dialer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// After a hundred thousand dials with every kind of ending, only tuples of open connections are in use. When those are
// closed too, no tuple, goroutine or descriptor is left, and pool and kernel agree on every tuple.
func TestNothingIsLeftBehind(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=32768 60999", "net.ipv4.tcp_max_tw_buckets=200000") {
		return
	}
	const workers = 32
	dials := 100_000
	if testing.Short() {
		dials = 5_000
	}
	const seed = 20
	t.Logf("seed %d", seed)

	silent := blackhole(t, "127.0.0.1:9001")
	blackhole(t, "[::1]:9001")
	listen(t, "tcp", "127.0.0.1:9002") // opens the poller of the runtime
	ignore := goleak.IgnoreCurrent()
	files := len(openFiles(t))
	var listeners []io.Closer
	var serving sync.WaitGroup
	serve := func(address string) string {
		l, err := net.Listen("tcp", address)
		require.NoError(t, err)
		listeners = append(listeners, l)
		serving.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				serving.Go(func() {
					var b [1]byte
					if n, _ := c.Read(b[:]); n == 1 && b[0] == 'r' {
						c.(*net.TCPConn).SetLinger(0)
					}
					c.Close() // first, if it was told to
				})
			}
		})
		return l.Addr().String()
	}
	open4, open6 := serve("127.0.0.1:9000"), serve("[::1]:9000")
	names := hosts{"both.test": {"127.0.0.1", "::1"}}.resolver()

	pools := []*tuple.Pool{
		pool("32768-45000"), // the range lane
		pool("10000-32767"), // the bind lane
		{
			Sources: []netip.Prefix{netip.MustParsePrefix("127.1.0.0/28"), netip.MustParsePrefix("::1/128")},
			Ports:   pool("5000-8999,50010-60999").Ports,
		},
		pool("50000-50003"), // so few that they run out
	}
	var tally [6]atomic.Int64 // connections, refusals, timeouts, cancellations, exhaustion, others
	var kept sync.Map
	dialOnce := func(random *rand.Rand) {
		d := &dialer.Dialer{TCP: pools[random.IntN(len(pools))], NetDialer: &net.Dialer{Resolver: names}}
		ctx, cancel := context.Background(), context.CancelFunc(func() {})
		address := open4
		switch random.IntN(20) {
		case 0, 1:
			address = open6
		case 2, 3, 4, 5:
			address = fmt.Sprintf("127.0.0.1:%d", 9100+random.IntN(50)) // refused
		case 6:
			address = silent
			ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(int(2*time.Millisecond))))
		case 7:
			address = "both.test:9001" // silent, both of them
			d.NetDialer.FallbackDelay = time.Duration(1 + random.IntN(1000))
			d.NetDialer.Timeout = time.Duration(1 + random.IntN(int(2*time.Millisecond)))
		case 8, 9:
			address = "both.test:9000"
			d.NetDialer.FallbackDelay = time.Duration(1 + random.IntN(100_000))
		case 10, 11, 12:
			ctx, cancel = context.WithCancel(ctx)
			timer := time.AfterFunc(time.Duration(random.IntN(int(200*time.Microsecond))), cancel)
			defer timer.Stop()
		case 13:
			d.Wait = time.Duration(random.IntN(int(time.Millisecond)))
		}
		defer cancel()
		c, err := d.DialContext(ctx, "tcp", address)
		e, _ := err.(net.Error)
		switch {
		case err == nil:
			tally[0].Add(1)
			tc := c.(*dialer.TCPConn)
			switch random.IntN(100) {
			case 0:
				kept.Store(tc, nil)
			case 1, 2, 3:
				tc.Close()
			case 4, 5, 6:
				tc.CloseWrite()
				io.Copy(io.Discard, tc)
				tc.Close()
			case 7, 8, 9:
				tc.Write([]byte("r")) // have it reset
				io.Copy(io.Discard, tc)
				tc.Close()
			case 10, 11, 12:
				tc.Write([]byte("c")) // have it closed
				io.Copy(io.Discard, tc)
				tc.Close()
			default:
				reset(tc)
			}
		case errors.Is(err, syscall.ECONNREFUSED):
			tally[1].Add(1)
		case errors.Is(err, tuple.ErrExhausted):
			tally[4].Add(1)
		case e.Timeout():
			tally[2].Add(1)
		case errors.Is(err, context.Canceled):
			tally[3].Add(1)
		default:
			tally[5].Add(1)
			t.Error(err)
		}
	}
	var all sync.WaitGroup
	for w := range uint64(workers) {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, w))
			for range dials / workers {
				dialOnce(random)
			}
		})
	}
	all.Wait()
	t.Logf("%d connections, %d refused, %d timeouts, %d cancelled, %d exhausted, %d other",
		tally[0].Load(), tally[1].Load(), tally[2].Load(), tally[3].Load(), tally[4].Load(), tally[5].Load())
	for i := range 5 {
		require.NotZero(t, tally[i].Load(), "every way was taken")
	}

	inUse, open := func() (n int) {
		for _, p := range pools {
			n += p.Stats().InUse
		}
		return n
	}, 0
	kept.Range(func(any, any) bool { open++; return true })
	require.Eventually(t, func() bool { return inUse() == open }, soon, time.Millisecond,
		"the losers of races come back")
	require.NotZero(t, open)
	requireAgreement(t, "tcp", pools...)
	kept.Range(func(c, _ any) bool { c.(*dialer.TCPConn).Close(); return true })
	require.Zero(t, inUse())
	for _, p := range pools {
		require.Zero(t, p.Stats().Waiting)
	}
	requireAgreement(t, "tcp", pools...)

	for _, l := range listeners {
		l.Close()
	}
	serving.Wait()
	goleak.VerifyNone(t, ignore)
	require.Len(t, openFiles(t), files)
}
