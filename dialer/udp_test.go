package dialer_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

// A UDPConn has the methods that programs look for in a UDP socket. quic-go needs them for its fast path (its
// OOBCapablePacketConn, and the buffers that it sets), and a resolver sends datagrams if it finds a net.PacketConn.
var _ interface {
	net.Conn
	net.PacketConn
	NetConn() net.Conn
	SyscallConn() (syscall.RawConn, error)
	SetReadBuffer(int) error
	SetWriteBuffer(int) error
	ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error)
	WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error)
	ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error)
	ReadFromUDPAddrPort(b []byte) (n int, addr netip.AddrPort, err error)
	File() (*os.File, error)
} = (*dialer.UDPConn)(nil)

// The methods of net.UDPConn work on a dialled UDPConn.
func TestUDPConnIsAUDPConn(t *testing.T) {
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer server.Close()
	p := pool("1024-65535")
	conn, err := (&dialer.Dialer{UDP: p}).Dial("udp", server.LocalAddr().String())
	require.NoError(t, err)
	c := conn.(*dialer.UDPConn)
	defer c.Close()
	require.Equal(t, tuple.Stats{InUse: 1, Destinations: 1}, p.Stats())
	require.NoError(t, c.SetReadBuffer(1<<16))
	require.NoError(t, c.SetWriteBuffer(1<<16))
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(uintptr) {}))
	require.Same(t, c.UDPConn, c.NetConn())

	deadline := time.Now().Add(soon)
	require.NoError(t, c.SetDeadline(deadline))
	require.NoError(t, server.SetDeadline(deadline))
	_, _, err = c.WriteMsgUDP([]byte("ping"), nil, nil)
	require.NoError(t, err)
	b := make([]byte, 10)
	n, from, err := server.ReadFromUDPAddrPort(b)
	require.NoError(t, err)
	require.Equal(t, "ping", string(b[:n]))
	require.Equal(t, addrPortOf(c.LocalAddr()), from)
	_, err = server.WriteToUDPAddrPort([]byte("pong"), from)
	require.NoError(t, err)
	n, _, _, sender, err := c.ReadMsgUDP(b, make([]byte, 100))
	require.NoError(t, err)
	require.Equal(t, "pong", string(b[:n]))
	require.Equal(t, server.LocalAddr().String(), sender.String())
	require.NoError(t, c.Close())
	require.Equal(t, tuple.Stats{}, p.Stats())
}

// A net.Resolver that dials with a Dialer asks in datagrams, each question from its own tuple.
func TestResolverDialsUDP(t *testing.T) {
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer server.Close()
	names := hosts{"there.test": {"192.0.2.7"}}
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := server.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			server.WriteToUDPAddrPort(names.answer(b[:n]), from)
		}
	}()
	dials := 0
	p := pool("1024-65535")
	p.Trace = &tuple.Trace{Acquired: func(tuple.Tuple, time.Duration) { dials++ }}
	d := &dialer.Dialer{UDP: p}
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		require.Equal(t, "udp", network)
		return d.DialContext(ctx, network, server.LocalAddr().String())
	}}
	ips, err := r.LookupNetIP(context.Background(), "ip4", "there.test.")
	require.NoError(t, err)
	require.Equal(t, []netip.Addr{netip.MustParseAddr("192.0.2.7")}, ips)
	require.NotZero(t, dials)
	require.Equal(t, tuple.Stats{}, p.Stats())
}

// The zero Dialer has separate pools for UDP and TCP, because their ports are separate.
func TestZeroDialerDialsUDP(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	var d dialer.Dialer
	for _, address := range []string{server.LocalAddr().String(), server.LocalAddr().String()} {
		c, err := d.Dial("udp", address)
		require.NoError(t, err)
		require.IsType(t, (*dialer.UDPConn)(nil), c)
		ports, err := dialer.HostPorts()
		require.NoError(t, err)
		require.True(t, ports.Contains(addrPortOf(c.LocalAddr()).Port()))
		require.NoError(t, c.Close())
	}
}
