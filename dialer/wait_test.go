package dialer_test

import (
	"context"
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

// full returns a pool whose only tuple towards a peer is in use by a connection.
func full(t *testing.T, to *peer) (*tuple.Pool, *dialer.TCPConn) {
	_, port, err := net.SplitHostPort(closedPort(t, "127.0.0.1"))
	require.NoError(t, err)
	p := pool(port)
	return p, dial(t, &dialer.Dialer{TCP: p}, to.addr())
}

func requireExhausted(t *testing.T, err error) net.Error {
	t.Helper()
	require.ErrorIs(t, err, tuple.ErrExhausted)
	require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
	require.ErrorContains(t, err, "(1 in use)")
	require.ErrorContains(t, err, syscall.EADDRNOTAVAIL.Error())
	return err.(net.Error)
}

// With Wait 0 a dial does not wait.
func TestNoWait(t *testing.T) {
	to := listen(t, "tcp", "127.0.0.1:0")
	p, c := full(t, to)
	_, err := (&dialer.Dialer{TCP: p}).Dial("tcp", to.addr())
	require.False(t, requireExhausted(t, err).Timeout())
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	reset(c)
}

// A waiting dial is served when a connection to its destination is closed.
func TestWaitIsServedByRelease(t *testing.T) {
	to := listen(t, "tcp", "127.0.0.1:0")
	for _, wait := range []time.Duration{soon, -1} {
		p, c := full(t, to)
		go func() {
			for p.Stats().Waiting == 0 {
				time.Sleep(time.Millisecond)
			}
			reset(c)
		}()
		next := dial(t, &dialer.Dialer{TCP: p, Wait: wait}, to.addr())
		require.Equal(t, c.Tuple(), next.Tuple())
		reset(next)
	}
}

// A Wait that ends without a tuple, however short, is both a timeout and exhaustion.
func TestWaitInVain(t *testing.T) {
	to := listen(t, "tcp", "127.0.0.1:0")
	p, c := full(t, to)
	for _, wait := range []time.Duration{time.Nanosecond, 10 * time.Millisecond} {
		_, err := (&dialer.Dialer{TCP: p, Wait: wait}).Dial("tcp", to.addr())
		require.True(t, requireExhausted(t, err).Timeout())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, tuple.Stats{InUse: 1, Destinations: 1}, p.Stats())
	}
	reset(c)
}

// A negative Wait lasts as long as the context or NetDialer allow.
func TestWaitEndsWithTheContext(t *testing.T) {
	to := listen(t, "tcp", "127.0.0.1:0")
	p, c := full(t, to)
	d := &dialer.Dialer{TCP: p, Wait: -1}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err := d.DialContext(ctx, "tcp", to.addr())
	require.True(t, requireExhausted(t, err).Timeout())
	require.ErrorIs(t, err, context.DeadlineExceeded)

	ctx, cancel = context.WithCancel(context.Background())
	go func() {
		for p.Stats().Waiting == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	_, err = d.DialContext(ctx, "tcp", to.addr())
	require.False(t, requireExhausted(t, err).Timeout())
	require.ErrorIs(t, err, context.Canceled)

	d.NetDialer = &net.Dialer{Timeout: 10 * time.Millisecond}
	_, err = d.Dial("tcp", to.addr())
	require.True(t, requireExhausted(t, err).Timeout())
	require.Equal(t, tuple.Stats{InUse: 1, Destinations: 1}, p.Stats())
	reset(c)
}

// A dial that waits keeps its place in the line when it finds that others have a tuple, and gets what is released.
func TestWaitWhereOthersHoldTuples(t *testing.T) {
	to := listen(t, "tcp", "127.0.0.1:0")
	p, c := full(t, to)
	require.True(t, p.Contains(tuple.From(netip.AddrPortFrom(netip.IPv4Unspecified(), local(c).Port()), to.addrPort())))
	blind := pool(p.Ports.String()) // knows nothing of c
	d := &dialer.Dialer{TCP: blind, Wait: 10 * time.Millisecond}
	_, err := d.Dial("tcp", to.addr())
	require.ErrorIs(t, err, tuple.ErrExhausted)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, tuple.Stats{Taken: 1, Destinations: 1}, blind.Stats())
	reset(c)
}

// A context that has ended is the reason for the failure, whatever else is wrong, for names and addresses.
func TestContextThatHasEndedComesFirst(t *testing.T) {
	to := listen(t, "tcp", "127.0.0.1:0")
	p, c := full(t, to)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, address := range []string{to.addr(), "[::ffff:127.0.0.1]:" + strconv.Itoa(int(to.addrPort().Port()))} {
		_, err := (&dialer.Dialer{TCP: p}).DialContext(ctx, "tcp", address)
		require.ErrorIs(t, err, context.Canceled, address)
		require.NotErrorIs(t, err, tuple.ErrExhausted, address)
	}
	reset(c)
}

// A dial waits for a quota as for a free port. The error is not that of a plain dial that finds no port.
func TestWaitForAQuota(t *testing.T) {
	to := listen(t, "tcp", "127.0.0.1:0")
	_, port, err := net.SplitHostPort(closedPort(t, "127.0.0.1"))
	require.NoError(t, err)
	_, other, err := net.SplitHostPort(closedPort(t, "127.0.0.1"))
	require.NoError(t, err)
	p := pool(port + "," + other)
	p.MaxTuples = 1
	c := dial(t, &dialer.Dialer{TCP: p}, to.addr())

	requireQuota := func(err error) net.Error {
		t.Helper()
		require.ErrorIs(t, err, tuple.ErrQuota)
		require.NotErrorIs(t, err, tuple.ErrExhausted)
		require.NotErrorIs(t, err, syscall.EADDRNOTAVAIL)
		require.NotContains(t, err.Error(), syscall.EADDRNOTAVAIL.Error())
		return err.(net.Error)
	}
	_, err = (&dialer.Dialer{TCP: p}).Dial("tcp", to.addr())
	require.False(t, requireQuota(err).Timeout())
	for _, wait := range []time.Duration{time.Nanosecond, 10 * time.Millisecond} {
		_, err = (&dialer.Dialer{TCP: p, Wait: wait}).Dial("tcp", to.addr())
		require.True(t, requireQuota(err).Timeout())
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	go func() {
		for p.Stats().Waiting == 0 {
			time.Sleep(time.Millisecond)
		}
		reset(c)
	}()
	next := dial(t, &dialer.Dialer{TCP: p, Wait: soon}, to.addr())
	reset(next)

	require.NoError(t, p.Close())
	_, err = (&dialer.Dialer{TCP: p, Wait: -1}).Dial("tcp", to.addr())
	require.ErrorIs(t, err, tuple.ErrClosed)
	require.NotErrorIs(t, err, syscall.EADDRNOTAVAIL)
}
