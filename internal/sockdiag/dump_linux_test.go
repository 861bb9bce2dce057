package sockdiag

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/internal/netns"
)

// fixture is a few sockets that do not change during a query.
type fixture struct {
	ports []uint16 // of the listeners; they tell its sockets from others
	pairs [][2]netip.AddrPort
	waits [][2]netip.AddrPort // in TIME_WAIT
	bound netip.AddrPort      // not connected
}

func (f *fixture) has(s Socket) bool {
	return slices.Contains(f.ports, s.Local.Port()) || slices.Contains(f.ports, s.Remote.Port()) || s.Local == f.bound
}

func newFixture(t *testing.T) *fixture {
	f := new(fixture)
	listen := []struct{ network, listen, dial string }{
		{"tcp4", "127.0.0.1:0", "127.0.0.1"},
		{"tcp4", "127.0.0.9:0", "127.0.0.9"},
		{"tcp", "[::]:0", "127.0.0.5"}, // IPv4 on an IPv6 socket
	}
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		require.NoError(t, l.Close())
		listen = append(listen, struct{ network, listen, dial string }{"tcp6", "[::1]:0", "::1"})
	}
	for _, c := range listen {
		l, err := net.Listen(c.network, c.listen)
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		port := l.Addr().(*net.TCPAddr).AddrPort().Port()
		f.ports = append(f.ports, port)
		to := netip.AddrPortFrom(netip.MustParseAddr(c.dial), port)
		for range 2 {
			client, server := pair(t, l, to)
			f.pairs = append(f.pairs, tupleOf(client), tupleOf(server))
		}
		client, server := pair(t, l, to)
		f.waits = append(f.waits, tupleOf(client))
		require.NoError(t, client.Close())
		require.NoError(t, server.Close())
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 77}}))
	name, err := unix.Getsockname(fd)
	require.NoError(t, err)
	f.bound = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.77"), uint16(name.(*unix.SockaddrInet4).Port))
	// The last ACK of a close may still be on its way.
	require.Eventually(t, func() bool {
		for _, w := range f.waits {
			s, found, err := Lookup(TCP, w[0], w[1])
			require.NoError(t, err)
			if !found || s.State != TimeWait {
				return false
			}
		}
		return true
	}, 10*time.Second, time.Millisecond)
	return f
}

func pair(t *testing.T, l net.Listener, to netip.AddrPort) (client, server net.Conn) {
	client, err := net.Dial("tcp", to.String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	server, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	return client, server
}

func tupleOf(c net.Conn) [2]netip.AddrPort {
	local := c.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
	remote := c.RemoteAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
	return [2]netip.AddrPort{plain(local), plain(remote)}
}

// list returns the sockets of the fixture that a Query yields, in order, without the fields that change with time.
func list(t *testing.T, q Query, keep func(Socket) bool) []Socket {
	t.Helper()
	var list []Socket
	for s, err := range q.All() {
		require.NoError(t, err)
		if keep(s) {
			s.Expires = 0
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b Socket) int {
		if c := a.Local.Compare(b.Local); c != 0 {
			return c
		}
		return a.Remote.Compare(b.Remote)
	})
	return list
}

// The kernel finds exactly the sockets that the slow filter finds in a list of everything, for each condition.
func TestKernelFiltersAsTheSlowFilter(t *testing.T) {
	// In a private network, because on a host with a million other sockets, two dozen full lists would take longer than
	// TIME_WAIT.
	if !netns.Isolate(t) {
		return
	}
	f := newFixture(t)
	everything := list(t, Query{}, f.has)
	require.GreaterOrEqual(t, len(everything), len(f.ports)+len(f.pairs)+len(f.waits))

	client, other, v4in6 := f.pairs[0], f.pairs[4], f.pairs[8]
	prefix := func(s ...string) (m Match) {
		for _, s := range s {
			m.Prefixes = append(m.Prefixes, netip.MustParsePrefix(s))
		}
		return m
	}
	ports := func(r ...PortRange) Match { return Match{Ports: r} }
	lowest, highest := slices.Min(f.ports), slices.Max(f.ports)
	for name, q := range map[string]Query{
		"family 4":             {Family: IPv4},
		"family 6":             {Family: IPv6},
		"established":          {States: StatesOf(Established)},
		"time-wait":            {States: StatesOf(TimeWait)},
		"listen":               {States: StatesOf(Listen)},
		"two states":           {States: StatesOf(Listen, TimeWait)},
		"local address":        {Local: prefix("127.0.0.9/32")},
		"local mapped address": {Local: prefix("::ffff:127.0.0.9/128")},
		"local IPv4 of IPv6":   {Local: prefix("127.0.0.5/32"), Family: IPv6},
		"remote address":       {Remote: prefix("127.0.0.9/32")},
		"remote prefix":        {Remote: prefix("127.0.0.8/29")},
		"two prefixes":         {Local: prefix("127.0.0.9/32", "::1/128")},
		"all of IPv4":          {Local: prefix("0.0.0.0/0")},
		"all of IPv6":          {Local: prefix("::/0")},
		"half of IPv6":         {Local: prefix("::/1"), Remote: prefix("::/3", "127.0.0.0/24")},
		"unspecified remote":   {Remote: prefix("0.0.0.0/32", "::/128")},
		"local port":           {Local: ports(PortRange{First: client[0].Port()})},
		"remote port":          {Remote: ports(PortRange{First: client[1].Port()})},
		"port 0":               {Remote: ports(PortRange{})},
		"list of ports": {Remote: ports(
			PortRange{First: f.ports[0]}, PortRange{First: f.ports[1]}, PortRange{First: 1})},
		"range of ports": {Remote: ports(PortRange{First: lowest, Last: highest})},
		"ranges of ports": {Local: ports(
			PortRange{First: 1, Last: 2}, PortRange{First: lowest, Last: highest - 1}, PortRange{First: highest})},
		"both ends":              {Local: At(other[0]), Remote: At(other[1])},
		"both ends, IPv4 on v6":  {Local: At(v4in6[0]), Remote: At(v4in6[1])},
		"address, port, state":   {Remote: At(client[1]), States: StatesOf(TimeWait)},
		"destination and no one": {Remote: At(netip.MustParseAddrPort("127.0.0.9:1"))},
	} {
		t.Run(name, func(t *testing.T) {
			var want []Socket
			for _, s := range everything {
				if q.matches(s) {
					want = append(want, s)
				}
			}
			// Sockets outside the fixture must match too, because there is no filter in Go.
			got := list(t, q, func(s Socket) bool {
				require.True(t, q.matches(s), "%+v", s)
				return true
			})
			require.Equal(t, want, got)
			if name != "destination and no one" {
				require.NotEmpty(t, want, "this case tests nothing")
			}
		})
	}
}

// The fields of an established pair, a listener and a socket in TIME_WAIT are right.
func TestSocketFields(t *testing.T) {
	f := newFixture(t)
	for _, p := range f.pairs {
		s, found, err := Lookup(TCP, p[0], p[1])
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, [2]netip.AddrPort{p[0], p[1]}, [2]netip.AddrPort{s.Local, s.Remote})
		require.Equal(t, Established, s.State)
		require.Equal(t, TCP, s.Protocol)
		require.Equal(t, uint32(os.Getuid()), s.UID)
		require.NotZero(t, s.Inode)
		require.Zero(t, s.Expires)
	}
	for _, p := range f.waits {
		s, found, err := Lookup(0, p[0], p[1])
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, TimeWait, s.State)
		require.Zero(t, s.Inode)
		require.Positive(t, s.Expires)
		require.LessOrEqual(t, s.Expires, 61*time.Second)
	}
	listeners := list(t, Query{States: StatesOf(Listen)}, f.has)
	require.Len(t, listeners, len(f.ports))
	for _, l := range listeners {
		require.True(t, l.Remote.Addr().IsUnspecified())
		require.Zero(t, l.Remote.Port())
		s, found, err := Lookup(TCP, l.Local, netip.AddrPort{})
		require.NoError(t, err)
		require.True(t, found, l.Local)
		require.Equal(t, l, s)
	}
}

// Lookup never returns a listener, or another socket of the same port, instead of the socket with the tuple.
func TestLookupIsExact(t *testing.T) {
	f := newFixture(t)
	server := f.pairs[1]
	for _, remote := range []netip.AddrPort{
		netip.AddrPortFrom(server[1].Addr(), 1),
		netip.AddrPortFrom(netip.MustParseAddr("127.0.0.200"), server[1].Port()),
	} {
		_, found, err := Lookup(TCP, server[0], remote)
		require.NoError(t, err)
		require.False(t, found)
	}
	_, found, err := Lookup(TCP, netip.MustParseAddrPort("127.0.0.1:1"), netip.AddrPort{})
	require.NoError(t, err)
	require.False(t, found)
	// IPv4-mapped addresses mean the IPv4 addresses.
	_, found, err = Lookup(TCP, mapped(server[0]), mapped(server[1]))
	require.NoError(t, err)
	require.True(t, found)

	_, _, err = Lookup(TCP, netip.AddrPort{}, server[1])
	require.ErrorContains(t, err, "no address")
	_, _, err = Lookup(TCP, server[0], netip.MustParseAddrPort("[::1]:1"))
	require.ErrorContains(t, err, "one end is IPv4")
	_, _, err = Lookup(1, server[0], server[1])
	require.ErrorContains(t, err, "protocol 1")
}

func mapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
}

// Lookup finds UDP sockets by their tuple, connected or not. The ends have the same order as for TCP.
func TestUDP(t *testing.T) {
	for _, loopback := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(loopback, func(t *testing.T) {
			server, err := net.ListenPacket("udp", loopback)
			if err != nil {
				t.Skip("no such loopback address:", err)
			}
			defer func() { _ = server.Close() }()
			client, err := net.Dial("udp", server.LocalAddr().String())
			require.NoError(t, err)
			defer func() { _ = client.Close() }()
			ends := tupleOf(client)

			s, found, err := Lookup(UDP, ends[0], ends[1])
			require.NoError(t, err)
			require.True(t, found)
			require.Equal(t, Established, s.State)
			require.Equal(t, UDP, s.Protocol)
			require.Equal(t, []Socket{s}, list(t, Query{Protocol: UDP, Local: At(ends[0]), Remote: At(ends[1])},
				func(Socket) bool { return true }))

			s, found, err = Lookup(UDP, ends[1], netip.AddrPort{})
			require.NoError(t, err)
			require.True(t, found)
			require.Equal(t, Close, s.State)

			_, found, err = Lookup(UDP, ends[1], ends[0])
			require.NoError(t, err)
			require.False(t, found, "the server's socket is not connected")
		})
	}
}

// All lists a TCP socket that is only bound, if the Query asks for BoundInactive.
func TestBoundInactive(t *testing.T) {
	f := newFixture(t)
	isIt := func(s Socket) bool { return s.Local == f.bound }
	require.Empty(t, list(t, Query{Local: At(f.bound)}, isIt))
	got := list(t, Query{Local: At(f.bound), States: StatesOf(BoundInactive)}, isIt)
	if len(got) == 0 {
		t.Skip("this kernel does not list sockets that are only bound: it needs Linux 6.8")
	}
	require.Len(t, got, 1)
	require.Equal(t, Close, got[0].State)
}

// All yields more sockets than one datagram has, each once. A consumer can stop early and use the sequence again.
func TestManyDatagrams(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	to := l.Addr().(*net.TCPAddr).AddrPort()
	want := make(map[[2]netip.AddrPort]bool)
	for range 400 { // both ends of each: 80 KB of answer
		client, _ := pair(t, l, to)
		want[tupleOf(client)] = true
	}
	all := Query{Remote: At(to), States: StatesOf(Established)}.All()
	before := openFiles(t)
	for range 20 {
		for range all {
			break
		}
	}
	require.Equal(t, before, openFiles(t), "netlink sockets are left open")
	for s, err := range all {
		require.NoError(t, err)
		ends := [2]netip.AddrPort{s.Local, s.Remote}
		require.True(t, want[ends], ends)
		delete(want, ends)
	}
	require.Empty(t, want)
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

// A request that the kernel refuses is an error with the error number.
func TestKernelRefusal(t *testing.T) {
	c, err := open(lookupBuffer)
	require.NoError(t, err)
	defer c.close()
	c.seq++
	question, err := appendDump(nil, Query{Local: At(netip.MustParseAddrPort("127.0.0.1:1"))}, IPv4, c.seq)
	require.NoError(t, err)
	question[messageHeader+requestSize+attrHeader] = 99 // no such instruction
	require.NoError(t, c.ask(question))
	var interrupted bool
	err = c.answers(TCP, true, &interrupted, func(Socket) bool { return true })
	require.ErrorIs(t, err, syscall.EINVAL)
}

// A datagram that does not fit into the buffer is an error, not a shorter list.
func TestTruncatedDatagram(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	c, err := open(messageHeader + 8)
	require.NoError(t, err)
	defer c.close()
	question, err := appendDump(nil, Query{Local: At(l.Addr().(*net.TCPAddr).AddrPort())}, IPv4, c.seq)
	require.NoError(t, err)
	require.NoError(t, c.ask(question))
	var interrupted bool
	err = c.answers(TCP, true, &interrupted, func(Socket) bool { return true })
	require.ErrorContains(t, err, "does not fit")
}

// Several goroutines may ask at the same time.
func TestConcurrentQuestions(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	results := make(chan int)
	for range 4 {
		go func() {
			n := 0
			for s, err := range (Query{Local: At(f.pairs[0][0])}).All() {
				if err == nil && s.Remote == f.pairs[0][1] {
					n++
				}
			}
			results <- n
		}()
	}
	for range 4 {
		select {
		case n := <-results:
			require.Equal(t, 1, n)
		case <-ctx.Done():
			t.Fatal("no answer")
		}
	}
}

// boundToDevice is a Control that binds a socket to a device.
func boundToDevice(name string) func(network, address string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var err error
		control := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), name) })
		return cmp.Or(err, control)
	}
}
