package dialer_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// A dial tries each tuple that the kernel refuses once, even if the pool would hand it out again (ReuseRetired), and
// then reports that none is left. That holds for TCP in all lanes, and for UDP.
func TestRefusedTupleIsTriedOnce(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	for _, port := range []uint16{40000, 40001, 20000} {
		explicit(port == 20000)(t, to, port)
	}
	tracker := newTracker(t)
	for _, ports := range []string{"40000-40001", "20000"} {
		var tries atomic.Int32
		p := pool(ports)
		p.ReuseRetired = true
		d := &dialer.Dialer{TCP: p, NetDialer: counted(&tries)}
		nd, err := tracker.NetDialer(d)
		require.NoError(t, err)
		for _, dial := range []dialFunc{d.DialContext, nd.DialContext} {
			tries.Store(0)
			_, err := dial(t.Context(), "tcp", to.addr())
			require.ErrorIs(t, err, tuple.ErrExhausted)
			require.LessOrEqual(t, tries.Load(), int32(4), "another lane may be tried too")
			require.Zero(t, p.Stats().InUse)
		}
		d.Wait = 10 * time.Millisecond
		_, err = d.DialContext(t.Context(), "tcp", to.addr())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Zero(t, p.Stats().InUse)
	}

	u := pool("20000", "127.0.0.1/32")
	u.ReuseRetired = true
	_, err := (&dialer.Dialer{UDP: u}).Dial("udp", "127.0.0.1:20000") // to itself
	require.ErrorIs(t, err, tuple.ErrExhausted)
	require.Zero(t, u.Stats().InUse)
}

// A waiter gets the only tuple soon after the peer has closed first, although the kernel refuses it while the last
// acknowledgement is under way.
func TestTupleInLastAckIsTriedSoonAgain(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	for _, port := range []int{40000, 20000} {
		for i, sources := range [][]string{nil, {"127.0.0.1/32"}} {
			p := pool(fmt.Sprint(port+i), sources...)
			d := &dialer.Dialer{TCP: p, Wait: parkedFor / 2}
			c := dial(t, d, to.addr())
			a := to.accept(t, c)
			require.NoError(t, a.Close())
			awaitFIN(t, c)
			loopback(t, false) // our FIN is sent again after a while
			require.NoError(t, c.Close())
			loopback(t, true)
			require.Equal(t, sockdiag.LastAck, kernelState(t, c.Tuple(), to))
			next := dial(t, d, to.addr())
			require.NoError(t, next.Abort())
		}
	}
}

// parkedFor is how long a refused tuple stays taken.
const parkedFor = 10 * time.Second

// loopback switches the loopback interface on or off.
func loopback(t *testing.T, on bool) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	require.NoError(t, err)
	lo.SetUint16(unix.IFF_LOOPBACK)
	if on {
		lo.SetUint16(unix.IFF_LOOPBACK | unix.IFF_UP)
	}
	require.NoError(t, unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo))
}
