package sockdiag

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/internal/netns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// elsewhere runs f on a thread in a new network namespace. The namespace ends with f.
func elsewhere(t testing.TB, f func()) {
	t.Helper()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	require.NoError(t, err)
	defer func() { _ = home.Close() }()
	require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
	defer func() {
		require.NoError(t, unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)) // otherwise the thread stays locked
		runtime.UnlockOSThread()
	}()
	require.NoError(t, netns.Up())
	f()
}

// here returns the number of the calling thread's network namespace.
func here(t testing.TB) uint64 {
	t.Helper()
	c, err := open(lookupBuffer)
	require.NoError(t, err)
	defer c.close()
	if c.cookie() == 0 {
		t.Skip("this kernel has no SO_NETNS_COOKIE: it needs Linux 5.14")
	}
	return c.cookie()
}

func idleCount(namespace uint64) (same, all int) {
	idle.mu.Lock()
	defer idle.mu.Unlock()
	for _, c := range idle.conns {
		if c.namespace == namespace {
			same++
		}
	}
	return same, len(idle.conns)
}

func requireFound(t testing.TB, want bool, x Exact) Socket {
	t.Helper()
	s, found, err := x.Lookup()
	require.NoError(t, err)
	require.Equal(t, want, found)
	return s
}

// A look-up with a namespace has the same result as one without. It leaves one descriptor open, which CloseIdle closes.
func TestLookupReusesItsSocket(t *testing.T) {
	f := newFixture(t)
	CloseIdle()
	before := openFiles(t)
	namespace := here(t)
	for _, p := range f.pairs {
		plain := requireFound(t, true, Exact{Local: p[0], Remote: p[1]})
		require.Equal(t, before, openFiles(t))
		for range 10 {
			require.Equal(t, plain, requireFound(t, true, Exact{Local: p[0], Remote: p[1], Namespace: namespace}))
		}
		require.Equal(t, before+1, openFiles(t))
		requireFound(t, false, Exact{Local: p[0], Remote: p[0], Namespace: namespace})
		require.Equal(t, before+1, openFiles(t))
		CloseIdle()
		require.Equal(t, before, openFiles(t))
	}
}

// On any thread, the answer is about the named namespace, or the error is ErrElsewhere.
func TestLookupInANamespace(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	listen := func() (net.Listener, uint64) {
		l, err := net.Listen("tcp4", "127.0.0.1:4000")
		require.NoError(t, err)
		return l, here(t)
	}
	at := netip.MustParseAddrPort("127.0.0.1:4000")
	l, home := listen()
	defer func() { _ = l.Close() }()
	first := requireFound(t, true, Exact{Local: at, Namespace: home})
	elsewhere(t, func() {
		requireFound(t, false, Exact{Local: at})
		l, there := listen()
		defer func() { _ = l.Close() }()
		require.NotEqual(t, home, there)
		second := requireFound(t, true, Exact{Local: at})
		for range 3 {
			require.NotEqual(t, first, second)
			require.Equal(t, second, requireFound(t, true, Exact{Local: at, Namespace: there}))
			require.Equal(t, first, requireFound(t, true, Exact{Local: at, Namespace: home}))
		}
		CloseIdle()
		before := openFiles(t)
		_, found, err := Exact{Local: at, Namespace: home}.Lookup()
		require.ErrorIs(t, err, ErrElsewhere)
		require.False(t, found)
		require.Equal(t, before, openFiles(t))
	})
	require.Equal(t, first, requireFound(t, true, Exact{Local: at, Namespace: home}))
}

// Few descriptors stay open, even if many look-ups run at once in many namespaces.
func TestIdleSocketsAreFew(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	CloseIdle()
	before := openFiles(t)
	at := netip.MustParseAddrPort("127.0.0.1:4000")
	last := uint64(0)
	for range 3 * idleInAll / idlePerNamespace {
		elsewhere(t, func() {
			namespace := here(t)
			last = namespace
			conns := make([]*conn, 5)
			for n := range conns {
				var err error
				conns[n], err = open(lookupBuffer)
				require.NoError(t, err)
				conns[n].namespace = namespace
			}
			for _, c := range conns {
				idle.put(c)
			}
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for range 20 {
						// If no netlink socket is idle, this thread cannot ask.
						if _, _, err := (Exact{Local: at, Namespace: namespace}).Lookup(); err != nil {
							require.ErrorIs(t, err, ErrElsewhere)
						}
					}
				})
			}
			all.Wait()
			same, _ := idleCount(namespace)
			require.Equal(t, idlePerNamespace, same)
		})
	}
	same, all := idleCount(last)
	require.Equal(t, idlePerNamespace, same)
	require.Equal(t, idleInAll, all)
	require.Equal(t, before+idleInAll, openFiles(t))
	CloseIdle()
	require.Equal(t, before, openFiles(t))
}

// A later look-up or a garbage collection closes a netlink socket that has been idle for long. One in use stays open.
func TestIdleSocketsAreClosed(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	CloseIdle()
	namespace, before := here(t), openFiles(t)
	at := netip.MustParseAddrPort("127.0.0.1:4000")
	age := func(d time.Duration) {
		idle.mu.Lock()
		defer idle.mu.Unlock()
		for n := range idle.conns {
			idle.conns[n].since = time.Now().Add(-d)
		}
	}
	for range 3 {
		requireFound(t, false, Exact{Local: at, Namespace: namespace})
		age(idleFor / 2)
		runtime.GC()
		runtime.GC()
		require.Equal(t, before+1, openFiles(t))
		age(idleFor)
		require.Eventually(t, func() bool {
			runtime.GC()
			return openFiles(t) == before
		}, inTime, time.Millisecond)
	}
	requireFound(t, false, Exact{Local: at, Namespace: namespace})
	age(idleFor)
	elsewhere(t, func() { requireFound(t, false, Exact{Local: at, Namespace: here(t)}) })
	same, all := idleCount(namespace)
	require.Zero(t, same)
	require.Equal(t, 1, all)
	CloseIdle()
}

// A failed look-up keeps no netlink socket, because its answer may still arrive there.
func TestFailedLookupKeepsNothing(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	CloseIdle()
	namespace, before := here(t), openFiles(t)
	c, err := open(messageHeader + requestSize) // no answer fits
	require.NoError(t, err)
	c.namespace = namespace
	idle.put(c)
	l, err := net.Listen("tcp4", "127.0.0.1:4000")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	at := netip.MustParseAddrPort("127.0.0.1:4000")
	_, found, err := Exact{Local: at, Namespace: namespace}.Lookup()
	require.ErrorContains(t, err, "does not fit")
	require.False(t, found)
	requireFound(t, true, Exact{Local: at, Namespace: namespace})
	CloseIdle()
	require.NoError(t, l.Close())
	require.LessOrEqual(t, openFiles(t), before+2, "the poller of the runtime takes two")
}

// A look-up finds a socket that is bound to a device only by the index of this device, for every kind and state.
func TestLookupOnADevice(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.tcp_tw_reuse=0") {
		return
	}
	lo, err := net.InterfaceByName("lo")
	require.NoError(t, err)
	bound := boundToDevice(lo.Name)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	c, err := (&net.Dialer{Control: bound}).Dial("tcp4", l.Addr().String())
	require.NoError(t, err)
	a, err := l.Accept()
	require.NoError(t, err)
	ends := tupleOf(c)
	x := Exact{Local: ends[0], Remote: ends[1]}
	requireFound(t, false, x)
	x.Device = lo.Index + 1
	requireFound(t, false, x)
	x.Device = lo.Index
	s := requireFound(t, true, x)
	require.Equal(t, lo.Index, s.Device)
	require.Equal(t, Established, s.State)
	w := watch(t, 0)
	watched, found, err := w.Find(x)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, s, watched)

	require.NoError(t, c.Close())
	require.NoError(t, a.Close())
	require.Eventually(t, func() bool {
		s, found, err = x.Lookup()
		return err == nil && found && s.State == TimeWait
	}, inTime, time.Millisecond)
	require.Equal(t, lo.Index, s.Device)

	// A look-up with a device finds a socket that is bound to none. Its Device is then 0.
	x = Exact{Local: plain(l.Addr().(*net.TCPAddr).AddrPort()), Device: lo.Index}
	require.Zero(t, requireFound(t, true, x).Device)

	u, err := (&net.Dialer{Control: bound}).Dial("udp4", "127.0.0.1:9")
	require.NoError(t, err)
	defer func() { _ = u.Close() }()
	ends = tupleOf(u)
	x = Exact{Protocol: UDP, Local: ends[0], Remote: ends[1]}
	requireFound(t, false, x)
	x.Device = lo.Index
	require.Equal(t, lo.Index, requireFound(t, true, x).Device)

	x.Device = -1
	_, _, err = x.Lookup()
	require.ErrorContains(t, err, "index -1")
}

// A socket with a link-local address is bound to a device, and a look-up finds it with that.
func TestLookupOfLinkLocal(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	netns.AddAddr(t, netip.MustParsePrefix("fe80::1/64"))
	lo, err := net.InterfaceByName("lo")
	require.NoError(t, err)
	l, err := net.Listen("tcp6", "[fe80::1%lo]:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp6", fmt.Sprintf("[fe80::1%%lo]:%d", l.Addr().(*net.TCPAddr).Port))
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	ends := tupleOf(c)
	requireFound(t, false, Exact{Local: ends[0], Remote: ends[1]})
	requireFound(t, true, Exact{Local: ends[0], Remote: ends[1], Device: lo.Index})
}

func BenchmarkLookup(b *testing.B) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(b, err)
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp4", l.Addr().String())
	require.NoError(b, err)
	defer func() { _ = c.Close() }()
	ends := tupleOf(c)
	for name, namespace := range map[string]uint64{"namespace=0": 0, "namespace=known": here(b)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			x := Exact{Local: ends[0], Remote: ends[1], Namespace: namespace}
			for b.Loop() {
				if _, found, err := x.Lookup(); !found || err != nil {
					b.Fatal(found, err)
				}
			}
		})
	}
}
