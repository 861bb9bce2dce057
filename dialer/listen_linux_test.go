package dialer_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// listenPacket listens until the test ends.
func listenPacket(t testing.TB, d *dialer.Dialer, network, address string) *dialer.UDPConn {
	t.Helper()
	l, err := d.ListenPacket(context.Background(), network, address)
	require.NoError(t, err)
	require.IsType(t, (*dialer.UDPConn)(nil), l)
	t.Cleanup(func() { l.Close() })
	return l.(*dialer.UDPConn)
}

// ListenPacket chooses a port that the pool does not hand out and that is not reserved.
func TestListenPacketChoosesAPortThatIsNotThePools(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 59999", "net.ipv4.ip_local_reserved_ports=60000-65529") {
		return
	}
	for _, ports := range []string{"40000-59990", "1024-59990"} {
		d := &dialer.Dialer{UDP: pool(ports)}
		free := alloc.MustParseSet("59991-59999,65530-65535")
		if ports == "40000-59990" {
			free = free.Union(alloc.MustParseSet("40000-65535")).
				Difference(alloc.MustParseSet("40000-59990,60000-65529"))
		}
		seen := map[uint16]bool{}
		var all []*dialer.UDPConn
		for i := range free.Len() {
			c := listenPacket(t, d, "udp", []string{"127.0.0.1:0", "127.0.0.1:", ":0", ""}[i%4])
			require.True(t, free.Contains(localUDP(c).Port()), "%v", c.LocalAddr())
			seen[localUDP(c).Port()] = true
			all = append(all, c)
		}
		require.Len(t, seen, free.Len(), "each port once, until none is left")
		c := listenPacket(t, d, "udp", "127.0.0.1:0")
		require.False(t, seen[localUDP(c).Port()], "then the kernel chooses")
		for _, c := range append(all, c) {
			require.NoError(t, c.Close())
		}
		require.Equal(t, tuple.Stats{}, d.UDP.Stats())
	}
	c := listenPacket(t, new(dialer.Dialer), "udp4", "127.0.0.1:0")
	require.GreaterOrEqual(t, localUDP(c).Port(), uint16(65530),
		"not of the host's own ports, which the zero Dialer dials from")
}

// No dial of any pool leaves from the port of an open listener, so the listener hears all its peers.
func TestNoDialLeavesFromTheListenersPort(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	peer := netip.MustParseAddrPort("127.0.0.1:9000")
	reuse := func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		return err
	}
	for i, address := range []string{"127.0.0.1", "", "0.0.0.0", "::"} {
		for _, nd := range []*net.Dialer{nil, {Control: reuse}} {
			for _, sources := range [][]string{nil, {"127.0.0.1/32"}} {
				t.Run(fmt.Sprint(i, nd != nil, sources), func(t *testing.T) {
					server, err := net.ListenPacket("udp", peer.String())
					require.NoError(t, err)
					defer server.Close()
					d := &dialer.Dialer{UDP: pool("20000-20003", sources...), NetDialer: nd}
					l := listenPacket(t, d, "udp", net.JoinHostPort(address, "20002"))
					for range 3 {
						require.NotEqual(t, uint16(20002), localUDP(dialUDP(t, d, peer.String())).Port())
					}
					require.ErrorIs(t, opError(t, d, "udp", peer.String()), tuple.ErrExhausted)
					_, err = server.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 20002})
					require.NoError(t, err)
					require.NoError(t, l.SetReadDeadline(time.Now().Add(soon)))
					_, from, err := l.ReadFrom(make([]byte, 1))
					require.NoError(t, err)
					require.EqualValues(t, 9000, from.(*net.UDPAddr).Port)

					require.NoError(t, l.Close())
					other := &dialer.Dialer{UDP: pool("20002", sources...)}
					c := dialUDP(t, other, peer.String())
					require.EqualValues(t, 20002, localUDP(c).Port(), "it lives no more")
					_, err = d.ListenPacket(context.Background(), "udp", net.JoinHostPort(address, "20002"))
					require.ErrorIs(t, err, syscall.EADDRINUSE, "a connected socket has it")
					require.ErrorContains(t, err, "the Dialer's UDP pool hands out this port")
					require.ErrorContains(t, err, "listen udp")
				})
			}
		}
	}
}

// Control gets the socket before it is bound, and the local address. ListenPacket returns its error.
func TestListenPacketCallsControl(t *testing.T) {
	var saw []string
	d := &dialer.Dialer{NetDialer: &net.Dialer{Control: func(network, address string, _ syscall.RawConn) error {
		saw = append(saw, network+" "+address)
		return nil
	}}}
	l, err := d.ListenPacket(context.Background(), "udp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.Contains(t, saw, "udp4 "+l.LocalAddr().String())

	d.NetDialer.Control = func(string, string, syscall.RawConn) error { return syscall.EPERM }
	_, err = d.ListenPacket(context.Background(), "udp", "127.0.0.1:0")
	require.ErrorIs(t, err, syscall.EPERM)
}

// Several sockets may listen on a port of a multicast address, as with package net.
func TestListenPacketSharesMulticast(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	d := &dialer.Dialer{UDP: pool("20000")}
	for range 2 {
		c, err := d.ListenPacket(t.Context(), "udp4", "224.0.0.251:5353")
		require.NoError(t, err)
		defer c.Close()
	}
}

// Other networks, and addresses that are not UDP, are left to package net.
func TestListenPacketOfOtherNetworks(t *testing.T) {
	d := new(dialer.Dialer)
	for _, c := range [][2]string{
		{"udp", "127.0.0.1"},
		{"udp4", "[::1]:0"},
		{"udp", "nowhere.invalid:0"},
		{"tcp", "127.0.0.1:0"},
		{"udp5", "127.0.0.1:0"},
	} {
		_, want := net.ListenPacket(c[0], c[1])
		l, err := d.ListenPacket(context.Background(), c[0], c[1])
		require.Nil(t, l)
		require.IsType(t, want, err)
		if c[0] == "udp5" || c[0] == "tcp" || c[1] == "127.0.0.1" {
			require.EqualError(t, err, want.Error())
		}
	}
	l, err := d.ListenPacket(context.Background(), "unixgram", t.TempDir()+"/s")
	require.NoError(t, err)
	require.NoError(t, l.Close())
}
