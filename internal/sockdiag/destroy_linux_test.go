package sockdiag

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/internal/netns"
)

// inTime is how long a test waits for something that must happen.
const inTime = 20 * time.Second

func watch(t *testing.T, buffer int, protocols ...Protocol) *Watcher {
	t.Helper()
	w, err := Watch(buffer, protocols...)
	require.NoError(t, err)
	t.Cleanup(w.Close)
	return w
}

func newSocket(t *testing.T, family int) (fd int, cookie uint64) {
	t.Helper()
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	require.NoError(t, err)
	return fd, cookie
}

// A dump names a socket by its SO_COOKIE. The entry in TIME_WAIT keeps the cookie, and IsLeftOver tells it from the
// socket.
func TestCookieIsThatOfTheSocket(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	a, err := l.Accept()
	require.NoError(t, err)
	local, remote := c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
	raw, err := c.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	var cookie uint64
	require.NoError(t, raw.Control(func(fd uintptr) {
		cookie, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE)
	}))
	require.NoError(t, err)

	s, found, err := Lookup(TCP, local, remote)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, cookie, s.Cookie)
	require.False(t, s.IsLeftOver())

	require.NoError(t, c.Close())
	require.Eventually(t, func() bool { // first in FIN_WAIT_2
		s, found, err = Lookup(TCP, local, remote)
		return err == nil && found && s.IsLeftOver()
	}, inTime, time.Millisecond)
	require.Equal(t, FinWait2, s.State)
	require.Equal(t, cookie, s.Cookie)
	require.NoError(t, a.Close())
	require.Eventually(t, func() bool {
		s, found, err = Lookup(TCP, local, remote)
		return err == nil && found && s.State == TimeWait
	}, inTime, time.Millisecond)
	require.True(t, s.IsLeftOver())
	require.Equal(t, cookie, s.Cookie)
}

// A Watcher receives a message for each closed socket of its network, of both families and after any use.
func TestWatcherHearsOfEachSocket(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	w := watch(t, 0)
	expected := map[uint64]bool{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		for range 100 {
			fd, cookie := newSocket(t, family)
			other, err := unix.Dup(fd)
			require.NoError(t, err)
			require.NoError(t, unix.Close(fd))
			expected[cookie] = true
			defer func() { _ = unix.Close(other) }()
		}
	}
	heard := func(cookie uint64) { require.Fail(t, "a message about an open socket") }
	lost, err := w.Next(10*time.Millisecond, heard)
	require.NoError(t, err)
	require.False(t, lost)

	for range 100 {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			fd, cookie := newSocket(t, family)
			require.NoError(t, unix.Close(fd))
			delete(expected, cookie)
			got := false
			for end := time.Now().Add(inTime); !got && time.Now().Before(end); {
				lost, err := w.Next(time.Second, func(c uint64) { got = got || c == cookie })
				require.NoError(t, err)
				require.False(t, lost)
			}
			require.True(t, got)
		}
	}
}

// A Watcher receives a message for every socket, or reports that it lost some. After that it receives every message
// again.
func TestWatcherSaysWhatItLost(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	w := watch(t, 4096)
	losses := 0
	for round := 0; round < 200 || losses < 20; round++ {
		require.Less(t, round, 100_000, "the receive buffer never overflows")
		closed := map[uint64]bool{}
		for range 1 + round%200 {
			fd, cookie := newSocket(t, unix.AF_INET)
			require.NoError(t, unix.Close(fd))
			closed[cookie] = true
		}
		lost := false
		for end := time.Now().Add(inTime); len(closed) > 0 && !lost; {
			require.True(t, time.Now().Before(end), "no message about %d sockets", len(closed))
			var err error
			lost, err = w.Next(time.Second, func(cookie uint64) { delete(closed, cookie) })
			require.NoError(t, err)
		}
		if lost {
			losses++
		}
	}
}

// Without Stop, Next returns after the timeout. Stop ends the waiting Next and all later ones.
func TestWatcherStops(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	w := watch(t, 0)
	lost, err := w.Next(-time.Second, func(uint64) {})
	require.NoError(t, err)
	require.False(t, lost)
	time.AfterFunc(time.Millisecond, w.Stop)
	for range 3 {
		_, err := w.Next(time.Hour, func(uint64) {})
		require.ErrorIs(t, err, os.ErrClosed)
	}
}

// The look-ups and lists of a Watcher have the same results as those of the package.
func TestWatcherAsks(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	w := watch(t, 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	for range 3 {
		s, found, err := w.Lookup(at, netip.AddrPort{})
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, Listen, s.State)
		var all []Socket
		for s, err := range w.All(Query{States: StatesOf(Listen)}) {
			require.NoError(t, err)
			all = append(all, s)
		}
		require.Equal(t, []Socket{s}, all)
	}
}

// eachDestroyed ignores messages that are cut off or of another kind.
func TestDestroyedOfADatagram(t *testing.T) {
	skipUnlessLittleEndian(t)
	both := fromHex(answerEstablished + answerDone + answerIPv6)
	var got []uint64
	eachDestroyed(both, func(cookie uint64) { got = append(got, cookie) })
	require.Equal(t, []uint64{0x146a9, 0x146aa}, got)
	for n := range both {
		eachDestroyed(both[:n:n], func(cookie uint64) { require.Contains(t, got, cookie) })
	}
}
