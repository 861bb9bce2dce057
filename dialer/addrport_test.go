package dialer_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

// DialTCP and DialUDP have the signatures of net.Dialer, except for what they return.
var _ interface {
	DialTCP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*dialer.TCPConn, error)
	DialUDP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*dialer.UDPConn, error)
} = (*dialer.Dialer)(nil)

var anywhere netip.AddrPort // not valid: the pool chooses

// dialAddrPort dials with DialTCP or DialUDP, and closes the connection when the test ends.
func dialAddrPort(t testing.TB, d *dialer.Dialer, network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
	t.Helper()
	if network[:3] == "udp" {
		c, err := d.DialUDP(context.Background(), network, laddr, raddr)
		if err != nil {
			require.Nil(t, c)
			return nil, err
		}
		t.Cleanup(func() { c.Close() })
		return c, nil
	}
	c, err := d.DialTCP(context.Background(), network, laddr, raddr)
	if err != nil {
		require.Nil(t, c)
		return nil, err
	}
	t.Cleanup(func() { reset(c) })
	return c, nil
}

// both returns a Dialer with its own pools, and a listener of each kind on one address.
func both(t testing.TB, sources ...string) (*dialer.Dialer, netip.AddrPort) {
	l := listen(t, "tcp", "127.0.0.1:0")
	u, err := net.ListenPacket("udp", l.addr())
	require.NoError(t, err)
	t.Cleanup(func() { u.Close() })
	return &dialer.Dialer{TCP: pool("1024-65535", sources...), UDP: pool("1024-65535", sources...)}, l.addrPort()
}

func addrPortOf(a net.Addr) netip.AddrPort {
	return a.(interface{ AddrPort() netip.AddrPort }).AddrPort()
}

// If the local address is not valid, the pool chooses source and port, and NetDialer.LocalAddr is not used.
func TestInvalidLaddrMeansChoose(t *testing.T) {
	for _, network := range []string{"tcp", "tcp4", "udp", "udp4"} {
		d, to := both(t)
		local := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
		d.NetDialer = &net.Dialer{LocalAddr: local}
		p := map[bool]*tuple.Pool{true: d.UDP, false: d.TCP}[network[:3] == "udp"]
		c, err := dialAddrPort(t, d, network, anywhere, to)
		require.NoError(t, err)
		require.Equal(t, to, addrPortOf(c.RemoteAddr()))
		require.Equal(t, tuple.Stats{InUse: 1, Destinations: 1}, p.Stats())
		require.True(t, p.Contains(tuple.From(addrPortOf(c.LocalAddr()), to)))
		require.Same(t, local, d.NetDialer.LocalAddr, "it is not modified")

		c, err = dialAddrPort(t, d, network,
			netip.AddrPortFrom(netip.IPv4Unspecified(), 0), netip.AddrPortFrom(netip.IPv4Unspecified(), to.Port()))
		require.NoError(t, err, "the unspecified address chooses too, and is this host as a destination")
		require.Equal(t, to, addrPortOf(c.RemoteAddr()))
		_, err = dialAddrPort(t, d, network, anywhere,
			netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port()))
		require.NoError(t, err, "mapped")
		require.Equal(t, tuple.Stats{InUse: 3, Destinations: 1}, p.Stats())
	}
}

// A local address with port 0 names the source. In a pool with Sources it must be one of them.
func TestLaddrWithoutPortNamesTheSource(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		for _, sources := range [][]string{nil, {"127.0.0.1/32", "127.0.0.2/32", "127.0.0.3/32"}} {
			d, to := both(t, sources...)
			if sources == nil {
				d, to = both(t)
			}
			d.Wait = 0
			from := netip.MustParseAddrPort("127.0.0.1:0")
			for range 4 {
				c, err := dialAddrPort(t, d, network, from, to)
				require.NoError(t, err)
				require.Equal(t, from.Addr(), addrPortOf(c.LocalAddr()).Addr())
			}
			if sources != nil {
				_, err := dialAddrPort(t, d, network, netip.MustParseAddrPort("127.0.0.9:0"), to)
				require.ErrorContains(t, err, "127.0.0.9")
				require.ErrorContains(t, err, "Sources")
				require.NotErrorIs(t, err, tuple.ErrExhausted)
			}
			require.Equal(t, 4, d.TCP.Stats().InUse+d.UDP.Stats().InUse)
		}
	}
}

// A local address with a port names both. The pool has it in use meanwhile.
func TestLaddrWithPortNamesBoth(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		d, to := both(t)
		from := netip.MustParseAddrPort(closedPort(t, "127.0.0.1"))
		c, err := dialAddrPort(t, d, network, from, to)
		require.NoError(t, err)
		require.Equal(t, from, addrPortOf(c.LocalAddr()))
		require.Equal(t, 1, d.TCP.Stats().InUse+d.UDP.Stats().InUse)
		_, err = dialAddrPort(t, d, network, from, to)
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		require.Equal(t, from, addrPortOf(err.(*net.OpError).Source))
	}
}

// An address that cannot be dialled gives an error that names it, and takes no tuple.
func TestAddrPortErrors(t *testing.T) {
	d, to := both(t)
	at := netip.MustParseAddrPort
	for _, c := range []struct {
		network      string
		laddr, raddr netip.AddrPort
		want         string
	}{
		{"", anywhere, anywhere, "missing address"},
		{"6", anywhere, to, "no suitable address"},
		{"4", anywhere, at("[::1]:80"), "no suitable address"},
		{"", at("[::1]:0"), to, "of another address family"},
		{"", at("[::1]:80"), to, "of another address family"},
		{"9", anywhere, to, "unknown network"},
		{"", to, to, "connected to itself"},
	} {
		for _, network := range []string{"tcp", "udp"} {
			_, err := dialAddrPort(t, d, network+c.network, c.laddr, c.raddr)
			require.IsType(t, (*net.OpError)(nil), err)
			require.ErrorContains(t, err, c.want)
			op := err.(*net.OpError)
			require.Equal(t, "dial", op.Op)
			require.Equal(t, network+c.network, op.Net)
			require.Equal(t, c.raddr.IsValid(), op.Addr != nil, "the address is known")
			require.NotEmpty(t, op.Error())
		}
	}
	c, err := d.DialTCP(context.Background(), "tcp4", anywhere, netip.AddrPortFrom(netip.Addr{}, to.Port()))
	require.NoError(t, err, "a port alone is the local system's")
	require.NoError(t, c.Abort())
	_, err = d.DialTCP(context.Background(), "udp", anywhere, to)
	require.ErrorAs(t, err, new(net.UnknownNetworkError))
	_, err = d.DialUDP(context.Background(), "tcp", anywhere, to)
	require.ErrorAs(t, err, new(net.UnknownNetworkError))
	//lint:ignore SA1012 on purpose
	require.PanicsWithValue(t, "nil context", func() { d.DialUDP(nil, "udp", anywhere, to) })
	require.Equal(t, tuple.Stats{}, d.TCP.Stats())
	require.Equal(t, tuple.Stats{}, d.UDP.Stats())
}

// A port of the pool that was asked for never counts as foreign, even if it becomes free at that moment.
func TestPortAskedForIsInTheAccount(t *testing.T) {
	p := pool("20000")
	u := tuple.MustParse("0.0.0.0:20000->192.0.2.1:80")
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if p.Reserve(u) {
					p.Release(u)
				}
			}
		}
	})
	for range 200_000 {
		state := dialer.Reserve(p, u, "")
		if state == tuple.Free {
			p.Release(u)
		}
		if state == tuple.Foreign {
			t.Error("it is the pool's")
			break
		}
	}
	close(stop)
	others.Wait()
}

// A closed pool also refuses a port that the caller asked for.
func TestPortAskedForOfAClosedPool(t *testing.T) {
	to := listen(t, "tcp", "127.0.0.1:0")
	p := pool("20000-20009", "127.0.0.1/32")
	require.NoError(t, p.Close())
	d := &dialer.Dialer{TCP: p, UDP: p}
	for _, port := range []uint16{20000, 0} {
		from := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
		_, err := d.DialTCP(t.Context(), "tcp", from, to.addrPort())
		require.ErrorIs(t, err, tuple.ErrClosed)
		_, err = d.DialUDP(t.Context(), "udp", from, to.addrPort())
		require.ErrorIs(t, err, tuple.ErrClosed)
	}
}
