package dialer_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

// opError dials and returns the *net.OpError, which names what was asked.
func opError(t *testing.T, d *dialer.Dialer, network, address string) *net.OpError {
	t.Helper()
	c, err := d.Dial(network, address)
	require.Nil(t, c, "not even a nil pointer in an interface")
	require.IsType(t, (*net.OpError)(nil), err)
	op := err.(*net.OpError)
	require.Equal(t, "dial", op.Op)
	require.Equal(t, network, op.Net)
	require.NotEmpty(t, op.Error())
	return op
}

// An address that cannot be dialled gives an error that names it, and takes no tuple.
func TestBadInputIsNamed(t *testing.T) {
	p := pool("40000-40999")
	d := &dialer.Dialer{TCP: p}
	for address, want := range map[string]string{
		"":                  "missing address",
		"127.0.0.1":         "missing port in address",
		"127.0.0.1:70000":   "70000",
		"127.0.0.1:-1":      "-1",
		"127.0.0.1:nothing": "nothing",
		"::1:80":            "too many colons",
		"[::1]:80:80":       "",
	} {
		op := opError(t, d, "tcp", address)
		require.ErrorContains(t, op, want)
		require.Nil(t, op.Addr)
		require.Nil(t, op.Source)
	}
	require.ErrorContains(t, opError(t, d, "tcp4", "[::1]:80"), "no suitable address")
	require.ErrorContains(t, opError(t, d, "tcp6", "127.0.0.1:80"), "no suitable address")
	require.Equal(t, tuple.Stats{}, p.Stats())
	//lint:ignore SA1012 on purpose
	require.PanicsWithValue(t, "nil context", func() { d.DialContext(nil, "tcp", "127.0.0.1:80") })
}

// Port 0 is left to net.Dialer, which connects UDP there.
func TestPortZeroIsLeftToNetDialer(t *testing.T) {
	d := &dialer.Dialer{TCP: pool("40000-40999"), UDP: pool("40000-40999")}
	for _, network := range []string{"tcp", "udp"} {
		for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0", "127.0.0.1:", "[::1]:0"} {
			c, err := d.Dial(network, address)
			other, want := new(net.Dialer).Dial(network, address)
			if want != nil {
				require.EqualError(t, err, want.Error())
				continue
			}
			require.NoError(t, err)
			require.Equal(t, other.RemoteAddr(), c.RemoteAddr())
			require.IsType(t, (*dialer.UDPConn)(nil), c)
			require.NoError(t, c.Close())
			other.Close()
		}
	}
	require.Equal(t, tuple.Stats{}, d.TCP.Stats())
	require.Equal(t, tuple.Stats{}, d.UDP.Stats())
}

// A context that has ended gives the error of net.Dialer.
func TestEndedContextGivesTheErrorOfNet(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for _, ctx := range []context.Context{ended, late} {
		for _, address := range []string{"127.0.0.1:9", "localhost:9"} {
			_, err := (&dialer.Dialer{TCP: pool("40000")}).DialContext(ctx, "tcp", address)
			_, want := new(net.Dialer).DialContext(ctx, "tcp", address)
			require.EqualError(t, err, want.Error())
			require.ErrorIs(t, err, ctx.Err())
		}
	}
}

// The error names the address that refused and the source that the user named. It does not name a port that the pool
// chose.
func TestErrorHasSourceAndAddr(t *testing.T) {
	to := netip.MustParseAddrPort(closedPort(t, "127.0.0.1"))
	for _, sources := range [][]string{nil, {"127.0.0.1/32"}} {
		p := pool("1024-65535", sources...)
		op := opError(t, &dialer.Dialer{TCP: p}, "tcp", to.String())
		require.ErrorIs(t, op, syscall.ECONNREFUSED)
		require.Equal(t, to, op.Addr.(*net.TCPAddr).AddrPort())
		if sources == nil {
			require.Nil(t, op.Source)
		} else {
			require.Equal(t, "127.0.0.1:0", op.Source.String())
		}
		require.Equal(t, tuple.Stats{}, p.Stats())
	}
}

// A LocalAddr that cannot be used gives an error that says why.
func TestLocalAddrThatCannotServe(t *testing.T) {
	to := listen(t, "tcp", "127.0.0.1:0")
	sourced := pool("1024-65535", "127.0.0.1/32")
	for _, c := range []struct {
		local net.Addr
		pool  *tuple.Pool
		want  string
	}{
		{&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil, "mismatched local address type"},
		{&net.TCPAddr{IP: net.IP{1, 2, 3}}, nil, "invalid IP address"},
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 70000}, nil, "invalid port"},
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, sourced, "Sources"},
		{&net.TCPAddr{IP: net.IPv6loopback}, nil, "the local address is of another address family"},
	} {
		d := &dialer.Dialer{TCP: c.pool, NetDialer: &net.Dialer{LocalAddr: c.local}}
		op := opError(t, d, "tcp", to.addr())
		require.ErrorContains(t, op, c.want)
		require.Equal(t, c.local, op.Source)
	}
	require.Equal(t, tuple.Stats{}, sourced.Stats())
}

// A pool without a source of the family gives an error that says so.
func TestPoolWithoutSourceOfTheFamily(t *testing.T) {
	p := pool("1024-65535", "2001:db8::1/128")
	require.ErrorContains(t, opError(t, &dialer.Dialer{TCP: p}, "tcp", "127.0.0.1:9"),
		"tuple: no source: none of the Pool's sources is an IPv4 address")
	p = &tuple.Pool{Sources: make([]netip.Prefix, 1)}
	require.ErrorContains(t, opError(t, &dialer.Dialer{TCP: p}, "tcp", "127.0.0.1:9"),
		"Pool.Sources[0] is not a valid prefix")
	require.Equal(t, tuple.Stats{}, p.Stats())
}

// A pool that cannot work makes each dial fail.
func TestPoolThatCannotWork(t *testing.T) {
	p := &tuple.Pool{Sources: []netip.Prefix{netip.MustParsePrefix("224.0.0.1/32")}}
	op := opError(t, &dialer.Dialer{TCP: p}, "tcp", "127.0.0.1:9")
	require.ErrorContains(t, op, "multicast")
	require.NotErrorIs(t, op, tuple.ErrExhausted)
}

// A local port that the caller asked for is in use in the pool meanwhile. A second dial from it fails towards the same
// address, and works towards another.
func TestLocalAddrWithPortIsReserved(t *testing.T) {
	first, second := listen(t, "tcp", "127.0.0.1:0"), listen(t, "tcp", "127.0.0.1:0")
	_, text, err := net.SplitHostPort(closedPort(t, "127.0.0.1"))
	require.NoError(t, err)
	port, err := strconv.Atoi(text)
	require.NoError(t, err)
	for _, ip := range []net.IP{nil, net.IPv4(127, 0, 0, 1)} {
		p := pool("1024-65535")
		d := &dialer.Dialer{TCP: p, NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: ip, Port: port}}}
		c := dial(t, d, first.addr())
		require.EqualValues(t, port, local(c).Port())
		require.Equal(t, tuple.Stats{InUse: 1, Destinations: 1}, p.Stats())

		op := opError(t, d, "tcp", first.addr())
		require.ErrorIs(t, op, syscall.EADDRINUSE)
		require.NotErrorIs(t, op, tuple.ErrExhausted)
		require.Equal(t, port, op.Source.(*net.TCPAddr).Port)

		other := dial(t, d, second.addr())
		require.EqualValues(t, port, local(other).Port())
		reset(c)
		reset(other)
		require.Equal(t, tuple.Stats{}, p.Stats())
	}
}

// A local port outside the pool is dialled from, and the pool does not record it.
func TestLocalAddrOutsideThePool(t *testing.T) {
	to := listen(t, "tcp", "127.0.0.1:0")
	_, text, err := net.SplitHostPort(closedPort(t, "127.0.0.1"))
	require.NoError(t, err)
	port, err := strconv.Atoi(text)
	require.NoError(t, err)
	p := pool("1", "127.0.0.3/32")
	d := &dialer.Dialer{TCP: p, NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}}}
	c := dial(t, d, to.addr())
	require.EqualValues(t, port, local(c).Port())
	require.Equal(t, tuple.Stats{}, p.Stats())
	_, err = d.Dial("tcp", to.addr())
	require.ErrorIs(t, err, syscall.EADDRINUSE, "the kernel keeps that account")
	reset(c)
}

// A deadline that has passed is a timeout, as for net.Dialer.
func TestTimeThatHasPassedIsTimeout(t *testing.T) {
	for _, nd := range []*net.Dialer{{Timeout: -1}, {Deadline: time.Now().Add(-time.Second)}} {
		op := opError(t, &dialer.Dialer{NetDialer: nd}, "tcp", "127.0.0.1:9")
		require.True(t, op.Timeout())
		var asNet net.Error
		require.True(t, errors.As(error(op), &asNet))
	}
}
