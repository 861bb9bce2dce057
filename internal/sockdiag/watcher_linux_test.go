package sockdiag

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/internal/netns"
)

// A Watcher receives messages about its protocols, of both families, and about no other protocol.
func TestWatcherHearsOfItsProtocols(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	kinds := map[Protocol]int{TCP: unix.SOCK_STREAM, UDP: unix.SOCK_DGRAM}
	for _, protocols := range [][]Protocol{nil, {TCP}, {UDP}, {TCP, UDP}} {
		w := watch(t, 0, protocols...)
		wanted, heard := map[uint64]bool{}, map[uint64]bool{}
		for range 20 {
			for _, protocol := range []Protocol{TCP, UDP} {
				for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
					fd, err := unix.Socket(family, kinds[protocol]|unix.SOCK_CLOEXEC, 0)
					require.NoError(t, err)
					cookie, err := socketCookie(fd)
					require.NoError(t, err)
					require.NoError(t, unix.Close(fd))
					wanted[cookie] = protocols == nil && protocol == TCP
					for _, p := range protocols {
						wanted[cookie] = wanted[cookie] || p == protocol
					}
				}
			}
		}
		left := func() (n int) {
			for cookie, isWanted := range wanted {
				if isWanted && !heard[cookie] {
					n++
				}
			}
			return n
		}
		for end := time.Now().Add(inTime); left() > 0; {
			require.True(t, time.Now().Before(end), "no message about %d sockets", left())
			lost, err := w.Next(time.Second, func(cookie uint64) { heard[cookie] = true })
			require.NoError(t, err)
			require.False(t, lost)
		}
		for cookie := range heard {
			require.True(t, wanted[cookie])
		}
	}
	_, err := Watch(0, 1)
	require.ErrorContains(t, err, "protocol 1")
}

// A Watcher finds and lists the sockets of both protocols.
func TestWatcherAsksForBothProtocols(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	w := watch(t, 0, UDP)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	u, err := net.Dial("udp", l.Addr().String())
	require.NoError(t, err)
	defer func() { _ = u.Close() }()
	ends := tupleOf(u)
	for _, x := range []Exact{
		{Protocol: UDP, Local: ends[0], Remote: ends[1]},
		{Local: ends[1]},
	} {
		s, found, err := w.Find(x)
		require.NoError(t, err)
		require.True(t, found)
		var all []Socket
		for s, err := range w.All(Query{Protocol: s.Protocol, Local: At(x.Local)}) {
			require.NoError(t, err)
			all = append(all, s)
		}
		require.Equal(t, []Socket{s}, all)
	}
}

// A consumer that stops a list early does not disturb the next query.
func TestWatcherListLeftEarly(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	w := watch(t, 0)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	to := l.Addr().(*net.TCPAddr).AddrPort()
	const pairs = 1000 // several datagrams
	for range pairs {
		pair(t, l, to)
	}
	for range 5 {
		for _, err := range w.All(Query{Remote: At(to)}) {
			require.NoError(t, err)
			break
		}
		_, found, err := w.Lookup(plain(to), netip.AddrPort{})
		require.NoError(t, err)
		require.True(t, found)
	}
	n := 0
	for _, err := range w.All(Query{Remote: At(to)}) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, pairs, n)
}

// A Watcher reports an error if other code closes or replaces its descriptor. It does not wait for ever, or read the
// messages of another socket.
func TestWatcherNoticesThatItIsBroken(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	fdOf := func(w *Watcher) (fd int) {
		require.NoError(t, w.raw.Control(func(n uintptr) { fd = int(n) }))
		return fd
	}
	broken := func(w *Watcher, want string) {
		for range 2 {
			_, err := w.Next(time.Hour, func(uint64) {})
			require.ErrorContains(t, err, want)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			_, err = w.Next(-1, func(uint64) {})
			require.ErrorContains(t, err, want)
		}
	}
	other, _ := newSocket(t, unix.AF_INET)
	defer func() { _ = unix.Close(other) }()
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer func() { _ = unix.Close(null) }()
	for _, c := range []struct {
		by   int
		want string
	}{
		{-1, unix.EBADF.Error()},
		{other, "another socket"},
		{null, unix.ENOTSOCK.Error()},
	} {
		for _, isWaiting := range []bool{false, true} {
			w := watch(t, 0)
			fd := fdOf(w)
			ruin := func() {
				if c.by < 0 {
					_ = unix.Close(fd)
				} else {
					_ = unix.Dup3(c.by, fd, unix.O_CLOEXEC)
				}
			}
			if isWaiting {
				time.AfterFunc(10*time.Millisecond, ruin)
			} else {
				ruin()
			}
			broken(w, c.want)
			if c.by < 0 { // so that Close does not close the descriptor of another file
				_ = unix.Dup3(null, fd, unix.O_CLOEXEC)
			}
		}
	}
}

// Watch fails if the runtime cannot wait for the socket, because Next would wait for ever, or not at all.
func TestWatcherNeedsThePoller(t *testing.T) {
	before := openFiles(t)
	const flags = unix.O_CREAT | unix.O_RDWR | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := unix.Open(filepath.Join(t.TempDir(), "file"), flags, 0o600)
	require.NoError(t, err)
	_, err = pollable(fd) // epoll_ctl fails with EPERM
	require.ErrorContains(t, err, "cannot wait")
	require.ErrorIs(t, err, os.ErrNoDeadline)
	require.LessOrEqual(t, openFiles(t), before+2, "the poller of the runtime takes two")
}

// Next goes on waiting after it has checked its descriptor, until its timeout or Stop.
func TestWatcherWaitsOn(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	w := watch(t, 0)
	begin := time.Now()
	lost, err := w.Next(destroyCheck+destroyCheck/2, func(uint64) {})
	require.NoError(t, err)
	require.False(t, lost)
	require.GreaterOrEqual(t, time.Since(begin), destroyCheck+destroyCheck/2)
	time.AfterFunc(destroyCheck+destroyCheck/4, w.Stop)
	_, err = w.Next(time.Hour, func(uint64) {})
	require.ErrorIs(t, err, os.ErrClosed)
}
