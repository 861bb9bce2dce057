package main

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	v4 = netip.MustParseAddr("127.0.0.1")
	v6 = netip.MustParseAddr("::1")
)

func TestDestinationsAreRead(t *testing.T) {
	for _, tc := range []struct {
		list   string
		source netip.Addr
		want   []string
	}{
		{"192.0.2.1:80", v4, []string{"192.0.2.1:80"}},
		{"192.0.2.1:80,192.0.2.1:81, 192.0.2.2:80", v4, []string{"192.0.2.1:80", "192.0.2.1:81", "192.0.2.2:80"}},
		{"[::ffff:192.0.2.1]:80", v4, []string{"192.0.2.1:80"}},
		{"[2001:db8::1]:65535", v6, []string{"[2001:db8::1]:65535"}},
		{"192.0.2.1:https", v4, []string{"192.0.2.1:443"}},
	} {
		to, err := parseDestinations(t.Context(), tc.list, tc.source)
		require.NoError(t, err, tc.list)
		var got []string
		for _, dst := range to {
			got = append(got, dst.String())
		}
		require.Equal(t, tc.want, got)
	}
}

func TestDestinationsThatCannotWorkAreExplained(t *testing.T) {
	for _, tc := range []struct{ list, say string }{
		{"192.0.2.1", "not host:port"},
		{":80", "not host:port"},
		{"", "not host:port"},
		{"192.0.2.1:80,", "not host:port"},
		{"2001:db8::1:80", "not host:port"},
		{"192.0.2.1:0", "port 0"},
		{"0.0.0.0:0", "port 0"},
		{"192.0.2.1:65536", "no such port"},
		{"192.0.2.1:-1", "no such port"},
		{"192.0.2.1:", "port"},
		{"192.0.2.1:no-such-service", "no such port"},
		{"0.0.0.0:80", "not an address to connect to"},
		{"[::]:80", "not an address to connect to"},
		{"[::1]:80", "same family"},
		{"[fe80::1%lo]:80", "zone"},
		{"192.0.2.1:80,192.0.2.1:80", "name each listener once"},
		{"192.0.2.1:80,192.0.2.1:http", "name each listener once"},
		{"192.0.2.1:80,[::ffff:192.0.2.1]:80", "name each listener once"},
		{"a host:80", "a host"},
	} {
		_, err := parseDestinations(t.Context(), tc.list, v4)
		require.ErrorContains(t, err, "--to", tc.list)
		require.ErrorContains(t, err, tc.say, tc.list)
	}
}

func TestOwnListenersKeepOutOfTheWay(t *testing.T) {
	seen := make(map[netip.Addr]bool)
	for i := range 1_000 {
		a := ownAddress(i, v4)
		require.True(t, a.IsLoopback())
		require.NotEqual(t, v4, a)
		require.False(t, seen[a], "%v twice", a)
		seen[a] = true
	}
	require.Equal(t, v6, ownAddress(7, v6), "IPv6 has one loopback address")
}

func TestALoopbackSourceIsHintedAt(t *testing.T) {
	here, there := netip.MustParseAddrPort("127.0.0.2:80"), netip.MustParseAddrPort("192.0.2.1:80")
	require.Contains(t, result{source: v4, to: []netip.AddrPort{here, there}}.hint(), "--source")
	require.Empty(t, result{source: v4, to: []netip.AddrPort{here}}.hint())
	require.Empty(t, result{source: there.Addr(), to: []netip.AddrPort{there}}.hint())
}
