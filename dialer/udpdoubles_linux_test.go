package dialer_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// connectedUDP returns how many connected UDP sockets the kernel has on each tuple.
func connectedUDP(t *testing.T) map[tuple.Tuple]int {
	t.Helper()
	sockets := map[tuple.Tuple]int{}
	q := sockdiag.Query{Protocol: sockdiag.UDP, States: sockdiag.StatesOf(sockdiag.Established)}
	for s, err := range q.All() {
		require.NoError(t, err)
		sockets[tuple.From(s.Local, s.Remote)]++
	}
	return sockets
}

func requireNoDoubles(t *testing.T, tuples int) {
	t.Helper()
	sockets := connectedUDP(t)
	for tu, n := range sockets {
		require.Equal(t, 1, n, "%v", tu)
	}
	require.Len(t, sockets, tuples)
}

// Two processes that do not know each other dial the same servers by UDP at the same time. No two sockets have the same
// tuple, according to the kernel's tables and to the answers that they hear.
func TestTwoProcessesDoubleNoUDPTuple(t *testing.T) {
	for name, p := range map[string]dialing{
		"named ports": {Ports: alloc.RangeSet(40000, 40999)},
		"zero Pool":   {}, // 1,000 ports: the others are reserved
		"a source": {
			Ports:   alloc.RangeSet(40000, 40999),
			Sources: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999",
				"net.ipv4.ip_local_reserved_ports=1024-39999,41000-65535") {
				return
			}
			p.Network, p.Most, p.Ask = "udp", 900, true
			for i := range 3 {
				p.Remotes = append(p.Remotes, echoUDP(t, fmt.Sprint("127.0.0.1:", 7000+i)))
			}
			_, ends, done := run(t, p, p)
			defer done()
			require.Equal(t, []string{"", ""}, ends)
			requireNoDoubles(t, 2*900)
		})
	}
}

// A Dialer and a program with net.Dialer that dial at the same time have no common UDP tuple.
func TestNoUDPTupleIsDoubledWithNetDialer(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	to := echoUDP(t, "127.0.0.1:7000")
	ours := dialing{
		Network: "udp", Remotes: []netip.AddrPort{to}, Ports: alloc.RangeSet(40000, 40999), Most: 400, Ask: true,
	}
	theirs := ours
	theirs.Stock = true
	_, ends, done := run(t, ours, theirs)
	defer done()
	require.Equal(t, []string{"", ""}, ends)
	requireNoDoubles(t, 800)
}

// Dialers with their own pools open and close all the time, on few ports. No socket hears the answer of another.
func TestUDPTuplesThatComeAndGoAreNotDoubled(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	to := []netip.AddrPort{echoUDP(t, "127.0.0.1:7000"), echoUDP(t, "127.0.0.1:7001")}
	dials := 300
	if testing.Short() {
		dials = 50
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			d := &dialer.Dialer{UDP: pool("20000-20015"), Wait: soon}
			for i := range dials {
				c, err := d.Dial("udp", to[i%2].String())
				require.NoError(t, err)
				require.NoError(t, ask(c, to[i%2]))
				require.NoError(t, c.Close())
			}
		})
	}
	all.Wait()
	requireNoDoubles(t, 0)
}
