package dialer_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// tinyBuffer is a receive buffer that holds a handful of messages.
const tinyBuffer = 4096

// requireAsTheKernel waits until the pool agrees with the kernel, tuple by tuple: exactly the connections to any of to
// are followed, p has as many tuples in use, and those in TIME_WAIT are retired. It returns how many of each there are.
func requireAsTheKernel(
	t testing.TB, tracker *dialer.Tracker, p *tuple.Pool, to ...netip.AddrPort,
) (connected, timeWait int) {
	t.Helper()
	var q sockdiag.Query
	for _, a := range to {
		q.Remote.Ports = append(q.Remote.Ports, sockdiag.PortRange{First: a.Port()})
	}
	disagreement := func() error {
		connected, timeWait = 0, 0
		followed := tracker.Followed()
		for s, err := range q.All() {
			require.NoError(t, err)
			tu := tuple.From(s.Local, s.Remote)
			switch {
			case s.State == sockdiag.TimeWait:
				timeWait++
			case !followed[tu]:
				return fmt.Errorf("%v is in %v and not followed", tu, s.State)
			default:
				connected++
				delete(followed, tu)
			}
			if !p.Contains(tu) {
				return fmt.Errorf("%v is in %v and free", tu, s.State)
			}
		}
		if len(followed) > 0 || p.Stats().InUse != connected {
			return fmt.Errorf("%d are connected, %d others are followed; %+v", connected, len(followed), p.Stats())
		}
		return nil
	}
	end := time.Now().Add(soon)
	for err := disagreement(); err != nil; err = disagreement() {
		require.True(t, time.Now().Before(end), "the kernel and the pool do not agree: %v", err)
		time.Sleep(20 * time.Millisecond)
	}
	return connected, timeWait
}

// batch opens n connections, in turn to each of to, and accepts them with one goroutine for each listener.
func batch(t testing.TB, dial dialFunc, n int, to []*net.TCPListener) (ours, theirs []*net.TCPConn) {
	t.Helper()
	accepted := make([][]*net.TCPConn, len(to))
	var accepting sync.WaitGroup
	for i, l := range to {
		accepting.Go(func() {
			for range n / len(to) {
				c, err := l.AcceptTCP()
				if err != nil {
					t.Error(err)
					return
				}
				accepted[i] = append(accepted[i], c)
			}
		})
	}
	for i := range n / len(to) * len(to) {
		c, err := dial(context.Background(), "tcp", to[i%len(to)].Addr().String())
		require.NoError(t, err)
		ours = append(ours, c.(*net.TCPConn))
	}
	accepting.Wait()
	for _, some := range accepted {
		theirs = append(theirs, some...)
	}
	return ours, theirs
}

func tcpListeners(t testing.TB, addresses ...string) (to []*net.TCPListener, at []netip.AddrPort) {
	t.Helper()
	for _, address := range addresses {
		l, err := net.Listen("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		to = append(to, l.(*net.TCPListener))
		at = append(at, l.Addr().(*net.TCPAddr).AddrPort())
	}
	return to, at
}

// If messages of the kernel are lost, the pool agrees with the kernel in the end: tuples of open connections are in
// use, those in TIME_WAIT cool down, and the others are free.
func TestTrackerRecoversFromLostMessages(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=32768 60999") {
		return
	}
	n := 3000
	if testing.Short() {
		n = 600
	}
	port := 9000 // each way uses its own port, because of TIME_WAIT
	for way, follow := range ways {
		t.Run(way, func(t *testing.T) {
			tracker := newTracker(t)
			tracker.SetReceiveBuffer(tinyBuffer)
			port++
			to, at := tcpListeners(t,
				fmt.Sprint("127.0.0.1:", port), fmt.Sprint("[::1]:", port), fmt.Sprint("127.0.0.2:", port))
			p := pool("10000-60999") // both lanes
			var dialled atomic.Bool  // because a dial gives a tuple back too if the kernel chose another port
			all := make(chan struct{})
			held := func() { // after the first message, until all are closed: nobody reads the rest
				if dialled.Load() {
					<-all
				}
			}
			p.Trace = &tuple.Trace{
				Released: func(tuple.Tuple) { held() }, Retired: func(tuple.Tuple, time.Duration) { held() },
			}
			dial := follow(t, tracker, dialer.Dialer{TCP: p})
			ours, theirs := batch(t, dial, n, to)
			dialled.Store(true)
			for i, c := range ours[n/3:] { // a third stays open, a third is reset, we close a third first
				if i%2 == 0 {
					c.SetLinger(0)
				}
				c.Close()
			}
			stay, others := split(theirs, ours[:n/3])
			for _, c := range others {
				c.Close()
			}
			require.Eventually(t, dropped, soon, time.Millisecond, "messages are lost")
			close(all)
			connected, timeWait := requireAsTheKernel(t, tracker, p, at...)
			require.Equal(t, n/3, connected)
			require.Equal(t, n/3, timeWait)
			require.Equal(t, n/3, p.Stats().Retired)
			require.Len(t, tracker.Followed(), n/3)
			for _, c := range append(stay, ours[:n/3]...) {
				resetPlain(c)
			}
			requireAsTheKernel(t, tracker, p, at...)
			require.Zero(t, p.Stats().InUse)
			require.Empty(t, tracker.Followed())
		})
	}
}

// dropped reports whether the kernel has dropped a message of sock_diag. The number is in the last column but one of
// its list of netlink sockets.
func dropped() bool {
	list, _ := os.ReadFile("/proc/net/netlink")
	for line := range strings.Lines(string(list)) {
		f := strings.Fields(line)
		if len(f) >= 10 && f[1] == strconv.Itoa(unix.NETLINK_SOCK_DIAG) && f[8] != "0" {
			return true
		}
	}
	return false
}

// split divides theirs into the other ends of ours and the rest.
func split(theirs, ours []*net.TCPConn) (those, others []*net.TCPConn) {
	ends := map[string]bool{}
	for _, c := range ours {
		ends[c.LocalAddr().String()+c.RemoteAddr().String()] = true
	}
	for _, c := range theirs {
		if ends[c.RemoteAddr().String()+c.LocalAddr().String()] {
			those = append(those, c)
		} else {
			others = append(others, c)
		}
	}
	return those, others
}

// A connection that is dialled while messages are lost is followed, and its tuple does not go back while it is open.
func TestTrackerFollowsWhatIsDialledWhileMessagesAreLost(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=32768 60999") {
		return
	}
	rounds, n := 40, 100
	if testing.Short() {
		rounds = 10
	}
	tracker := newTracker(t)
	tracker.SetReceiveBuffer(tinyBuffer)
	p := pool("10000-60999")
	dial := ways["NetDialer"](t, tracker, dialer.Dialer{TCP: p})
	var all sync.WaitGroup
	var kept sync.Map
	to, at := tcpListeners(t, "127.0.0.1:9000", "[::1]:9000", "127.0.0.2:9000")
	for i := range to {
		all.Go(func() {
			for range rounds {
				ours, theirs := batch(t, dial, n, to[i:i+1])
				stay, others := split(theirs, ours[:1])
				kept.Store(ours[0], nil)
				kept.Store(stay[0], nil)
				for _, c := range append(others, ours[1:]...) {
					resetPlain(c)
				}
			}
		})
	}
	all.Wait()
	connected, timeWait := requireAsTheKernel(t, tracker, p, at...)
	require.Equal(t, len(to)*rounds, connected)
	require.Zero(t, timeWait)
	t.Logf("%d comparisons", tracker.Rounds())
	kept.Range(func(c, _ any) bool { resetPlain(c.(*net.TCPConn)); return true })
	requireEmpty(t, p)
}

// A look-up does not find a connection that is bound to a device. If messages are lost, it still counts as open.
func TestTrackerKeepsWhatALookupDoesNotFind(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=32768 60999") {
		return
	}
	tracker := newTracker(t)
	tracker.SetReceiveBuffer(tinyBuffer)
	onDevice := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) {
			err = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "lo")
		})
		return err
	}}
	to, _ := tcpListeners(t, "127.0.0.1:0")
	for way, follow := range ways {
		p := pool("10000-10003,40000-40003")
		dial := follow(t, tracker, dialer.Dialer{TCP: p, NetDialer: onDevice})
		ours, theirs := batch(t, dial, 8, to)
		before := tracker.Rounds()
		require.Eventually(t, func() bool {
			a, b := batch(t, follow(t, tracker, dialer.Dialer{TCP: pool("20000-30000")}), 300, to)
			for _, c := range append(a, b...) {
				resetPlain(c)
			}
			return tracker.Rounds() > before+1
		}, soon, time.Millisecond)
		require.Equal(t, 8, p.Stats().InUse, way)
		for _, c := range append(ours, theirs...) {
			resetPlain(c)
		}
		require.Eventually(t, func() bool { return p.Stats().InUse == 0 }, soon, time.Millisecond, way)
	}
}

// A Tracker needs no privileges: the process gives up root if it has it.
func TestTrackerNeedsNoPrivilege(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	if err := unix.Setresuid(65534, 65534, 65534); err != nil {
		t.Logf("not root outside the private network either: %v", err) // its user namespace has one user
	}
	tracker := newTracker(t)
	to := listen(t, "tcp", "127.0.0.1:9000")
	p := pool("40000,20000")
	for _, follow := range ways {
		dial := follow(t, tracker, dialer.Dialer{TCP: p})
		one, other := plain(t, dial, to.addr()), plain(t, dial, to.addr())
		require.Equal(t, 2, p.Stats().InUse)
		resetPlain(one)
		resetPlain(other)
		requireEmpty(t, p)
	}
}

// With EPHEMERA_TRACKER_CONNECTIONS=1000000 so many connections are opened and ended, some thousand at a time, while
// most of the kernel's messages are lost, and the account is compared with the kernel tuple by tuple, by Audit too.
// It takes minutes:
//
//	EPHEMERA_TRACKER_CONNECTIONS=1000000 go test ./dialer -run=TestTrackerInTheLongRun -v -timeout=1h
func TestTrackerInTheLongRun(t *testing.T) {
	total, err := strconv.Atoi(os.Getenv("EPHEMERA_TRACKER_CONNECTIONS"))
	if err != nil {
		t.Skip("EPHEMERA_TRACKER_CONNECTIONS says how many connections; it is not set")
	}
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=32768 60999", "net.ipv4.tcp_max_tw_buckets=200000") {
		return
	}
	tracker := newTracker(t)
	tracker.SetReceiveBuffer(tinyBuffer)
	to, at := tcpListeners(t, "127.0.0.1:999", "127.0.0.2:999", "[::1]:999", "127.0.0.3:999")
	p := pool("1024-65535")
	dials := []dialFunc{
		ways["NetDialer"](t, tracker, dialer.Dialer{TCP: p}), ways["Tracker"](t, tracker, dialer.Dialer{TCP: p}),
	}
	const size = 8000 // both ends are descriptors of this process
	start, opened, checks := time.Now(), 0, 0
	var kept []*net.TCPConn
	for i := 0; opened < total; i++ {
		ours, theirs := batch(t, dials[i%2], min(size, total-opened+len(to)), to)
		opened += len(ours)
		kept = append(kept, ours[0])
		stay, others := split(theirs, ours[:1])
		kept = append(kept, stay...)
		for _, c := range others {
			resetPlain(c)
		}
		for j, c := range ours[1:] {
			if j%2 == 0 {
				c.SetLinger(0)
			}
			c.Close()
		}
		if i%10 == 9 || opened >= total {
			connected, _ := requireAsTheKernel(t, tracker, p, at...)
			require.Equal(t, i+1, connected)
			requireAgreement(t, "tcp", p)
			checks++
		}
	}
	t.Logf("%d connections in %v: %d comparisons by the Tracker, %d by the test; %d connections live, %+v",
		opened, time.Since(start).Round(time.Second), tracker.Rounds(), checks, len(tracker.Followed()), p.Stats())
	for _, c := range kept {
		resetPlain(c)
	}
	requireAsTheKernel(t, tracker, p, at...)
	require.Zero(t, p.Stats().InUse)
	require.Empty(t, tracker.Followed())
}
