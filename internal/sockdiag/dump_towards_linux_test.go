package sockdiag

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/internal/netns"
)

// towards returns the sockets with this remote end, as the kernel lists them.
func towards(t *testing.T, remote netip.AddrPort, states ...State) (all []Socket) {
	t.Helper()
	for s, err := range (Query{Remote: At(remote), States: StatesOf(states...)}).All() {
		require.NoError(t, err)
		require.Equal(t, remote, s.Remote)
		all = append(all, s)
	}
	return all
}

// A dump by destination has the sockets that Lookup does not find: those bound to a device, and IPv6 sockets that talk
// IPv4 by mapped addresses. They are connected, or closed and in FIN_WAIT_2 or TIME_WAIT.
func TestDumpHasWhatIsBoundToADevice(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	lo, err := net.InterfaceByName("lo")
	require.NoError(t, err)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	to := plain(l.Addr().(*net.TCPAddr).AddrPort())
	dial := func(network string) (client, server net.Conn) {
		fd, err := unix.Socket(map[string]int{"tcp4": unix.AF_INET, "tcp6": unix.AF_INET6}[network],
			unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, unix.BindToDevice(fd, lo.Name))
		at := unix.Sockaddr(&unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
		if network == "tcp6" {
			at = &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
		}
		require.NoError(t, unix.Connect(fd, at))
		client = file(t, fd)
		server, err = l.Accept()
		require.NoError(t, err)
		return client, server
	}
	a, atA := dial("tcp4")
	b, atB := dial("tcp6")
	defer func() { _ = atA.Close() }()

	got := towards(t, to)
	require.Len(t, got, 2)
	families := map[Family]int{}
	for _, s := range got {
		families[s.Family]++
		require.Equal(t, Established, s.State)
		require.Equal(t, lo.Index, s.Device)
		require.Equal(t, to, s.Remote)
	}
	require.Equal(t, map[Family]int{IPv4: 1, IPv6: 1}, families)

	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	require.NoError(t, atB.Close())
	require.Eventually(t, func() bool { return len(towards(t, to, TimeWait)) == 1 }, inTime, time.Millisecond)
	require.Eventually(t, func() bool {
		left := towards(t, to, FinWait2)
		return len(left) == 1 && left[0].IsLeftOver()
	}, inTime, time.Millisecond)
	for _, s := range towards(t, to, TimeWait, FinWait2) {
		require.Equal(t, lo.Index, s.Device)
		require.True(t, s.IsLeftOver())
		require.NotZero(t, s.Cookie)
	}
}

func file(t *testing.T, fd int) net.Conn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "socket")
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	require.NoError(t, err)
	return c
}

// Expires counts down from the duration of TIME_WAIT, and from tcp_fin_timeout for a closed socket in FIN_WAIT_2. The
// kernel keeps both in the same table. A query can ask for each of the two states alone.
func TestDumpTellsWhatIsLeftOfTimeWait(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.tcp_fin_timeout=20") {
		return
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	to := plain(l.Addr().(*net.TCPAddr).AddrPort())
	client, server := pair(t, l, to)
	require.NoError(t, client.Close())
	only := func(state State) (s Socket) {
		require.Eventually(t, func() bool {
			got := towards(t, to, state)
			if len(got) == 1 {
				s = got[0]
			}
			return len(got) == 1 && s.IsLeftOver()
		}, inTime, time.Millisecond)
		return s
	}
	half := only(FinWait2)
	require.Equal(t, FinWait2, half.State)
	require.Greater(t, half.Expires, 10*time.Second)
	require.LessOrEqual(t, half.Expires, 21*time.Second)
	require.Empty(t, towards(t, to, TimeWait), "FIN_WAIT_2 is not in TIME_WAIT")

	require.NoError(t, server.Close())
	whole := only(TimeWait)
	require.Equal(t, half.Cookie, whole.Cookie)
	require.Greater(t, whole.Expires, 40*time.Second)
	require.LessOrEqual(t, whole.Expires, 61*time.Second)
	require.Eventually(t, func() bool { return only(TimeWait).Expires < whole.Expires }, inTime, time.Millisecond)
	require.Empty(t, towards(t, to, FinWait2))
}

// A connection in the SYN queue of a listener is in the list towards the client. Its state is SynRecv, also if the
// query asks for NewSynRecv.
func TestDumpHasSynReceived(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	// The kernel leaves a connection in the SYN queue until the first data arrives.
	deferred := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		_ = raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 30)
		})
		return err
	}}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := deferred.Listen(t.Context(), "tcp", address)
		require.NoError(t, err)
		defer func() { _ = l.Close() }()
		client, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer func() { _ = client.Close() }()
		ends := tupleOf(client)
		for _, states := range [][]State{{NewSynRecv}, {SynRecv}, nil} {
			var got []Socket
			for _, s := range towards(t, ends[0], states...) {
				require.Equal(t, ends[1], s.Local)
				require.Equal(t, SynRecv, s.State)
				require.Zero(t, s.Expires)
				got = append(got, s)
			}
			require.Len(t, got, 1)
		}
	}
}

// A dump of both families finds a socket by the state that it is in, from both ends, for every state.
func TestDumpByState(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	l, err := net.Listen("tcp", "[::]:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	port := plain(l.Addr().(*net.TCPAddr).AddrPort()).Port()
	client, server := pair(t, l, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
	ends := tupleOf(client)
	both := func(atClient, atServer State) {
		t.Helper()
		require.Eventually(t, func() bool {
			c, s := towards(t, ends[1], atClient), towards(t, ends[0], atServer)
			return len(c) == 1 && c[0].State == atClient && c[0].Family == IPv4 &&
				len(s) == 1 && s[0].State == atServer && s[0].Family == IPv6
		}, inTime, time.Millisecond)
	}
	both(Established, Established)
	require.NoError(t, client.(*net.TCPConn).CloseWrite())
	both(FinWait2, CloseWait)
	require.False(t, towards(t, ends[1], FinWait2)[0].IsLeftOver(), "it is open")
	require.NoError(t, server.Close())
	require.Eventually(t, func() bool { return len(towards(t, ends[1], TimeWait)) == 1 }, inTime, time.Millisecond)
	require.Empty(t, towards(t, ends[0]))
}
