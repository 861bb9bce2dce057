package main

import (
	"math"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
)

var linuxPorts = alloc.RangeSet(32768, 60999)

func TestPlanDividesByTheFileLimit(t *testing.T) {
	for _, tc := range []struct {
		name             string
		r                request
		servers, clients int
	}{
		{"one process each suffices", request{connections: 1_000, ports: linuxPorts, files: 20_000}, 1, 1},
		{"the default under a low limit", request{connections: 65_537, ports: linuxPorts, files: 20_000}, 4, 4},
		{"a million under a low limit", request{connections: 1_000_000, ports: linuxPorts, files: 20_000}, 51, 51},
		{"a high limit", request{connections: 65_537, ports: linuxPorts, files: 1 << 20}, 3, 1},
		{
			"given listeners",
			request{connections: 65_537, ports: linuxPorts, files: 20_000, destinations: 3},
			0, 4,
		},
		{
			"exactly what the ports carry",
			request{connections: 2 * 28_232, ports: linuxPorts, files: 20_000, destinations: 2},
			0, 3,
		},
		{
			"the stock dialer may ask for too much",
			request{connections: 65_537, ports: linuxPorts, files: 20_000, destinations: 1, stock: true},
			0, 4,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := makePlan(tc.r)
			require.NoError(t, err)
			require.Equal(t, tc.servers, p.servers)
			require.Len(t, p.clients, tc.clients)
		})
	}
}

func TestSharesCoverTheRunAndNeverMeet(t *testing.T) {
	for _, tc := range []struct{ connections, ports, clients, destinations int }{
		{65_537, 28_232, 4, 4},
		{1_000_000, 28_232, 51, 51},
		{28_232 * 3, 28_232, 5, 3}, // every tuple is needed
		{21, 7, 3, 3},              // slices that differ in size, every tuple needed
		{1, 7, 1, 1},
		{2, 7, 5, 1}, // fewer connections than clients
	} {
		all := alloc.RangeSet(40_000, uint16(40_000+min(tc.ports, 25_000)-1)).
			Union(alloc.RangeSet(1024, uint16(1024+max(0, tc.ports-25_000)-1)))
		require.Equal(t, tc.ports, all.Len())
		next, together := 0, alloc.Set{}
		to := make([]netip.AddrPort, tc.destinations)
		for i := range to {
			to[i] = netip.AddrPortFrom(ownAddress(i, v4), 80)
		}
		perDestination := make(map[netip.AddrPort]int)
		for i, s := range divide(tc.connections, all, tc.clients) {
			require.Equal(t, next, s.first)
			next += s.connections
			require.Zero(t, together.Intersect(s.ports).Len())
			together = together.Union(s.ports)

			j := clientJob{To: to, Start: i % len(to), First: s.first, Connections: s.connections}
			here := make(map[netip.AddrPort]int)
			for dst := range j.destinations() {
				here[dst]++
				perDestination[dst]++
			}
			for _, n := range here {
				require.LessOrEqual(t, n, s.ports.Len(), "connections of one client to one destination")
			}
		}
		require.Equal(t, tc.connections, next)
		require.Equal(t, all.String(), together.String())
		for _, dst := range to {
			even := tc.connections / tc.destinations
			require.Contains(t, []int{even, even + 1}, perDestination[dst], "destinations fill evenly")
		}
	}
}

func TestPlanRefusesWithAWayOut(t *testing.T) {
	for _, tc := range []struct {
		name string
		r    request
		say  []string
	}{
		{
			"too few listeners",
			request{connections: 65_537, ports: linuxPorts, files: 20_000, destinations: 2},
			[]string{"2 listeners", "28,232 ports", "56,464 connections", "not 65,537", "name 3 listeners"},
		},
		{
			"one too few",
			request{connections: 28_233, ports: linuxPorts, files: 20_000, destinations: 1},
			[]string{"1 listener and", "28,232 connections", "name 2 listeners"},
		},
		{
			"nothing asked",
			request{connections: 0, ports: linuxPorts, files: 20_000},
			[]string{"-n 0", "at least one connection"},
		},
		{"less than nothing asked", request{connections: -5, ports: linuxPorts, files: 20_000}, []string{"-n -5"}},
		{"no ports", request{connections: 1, files: 20_000}, []string{"ip_local_reserved_ports"}},
		{
			"a limit that leaves nothing",
			request{connections: 1, ports: linuxPorts, files: 64},
			[]string{"64 files", "ulimit -n"},
		},
		{
			"more processes than one can watch",
			request{connections: 1_000_000, ports: linuxPorts, files: 1024},
			[]string{"1,024 files", "ulimit -n"},
		},
		{
			"far more processes than one can watch, at once",
			request{connections: 60_000, ports: linuxPorts, files: spareFiles + 4},
			[]string{"104 files", "ulimit -n"},
		},
		{
			"more than the arithmetic allows",
			request{connections: math.MaxInt, ports: linuxPorts, files: 20_000},
			[]string{"100,000,000"},
		},
		{
			"more processes than ports",
			request{connections: 30, ports: alloc.RangeSet(40_000, 40_001), files: spareFiles + 10, destinations: 100},
			[]string{"2 ports", "ulimit -n"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := makePlan(tc.r)
			require.Error(t, err)
			for _, s := range tc.say {
				require.ErrorContains(t, err, s)
			}
		})
	}
}

func TestMemoryIsRefusedBeforeTheKernelKills(t *testing.T) {
	require.NoError(t, enoughMemory(1_000_000, true, 24<<30))
	require.ErrorContains(t, enoughMemory(1_000_000, true, 4<<30), "-n 299593 would fit")
	require.NoError(t, enoughMemory(299_593, true, 4<<30))
	require.NoError(t, enoughMemory(599_000, false, 4<<30), "only one end is on this host")
}
