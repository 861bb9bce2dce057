package dialer_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// A dial tries each tuple that the kernel refuses once, though the pool would hand it out again at once (ReuseRetired), and says
// then that none is left; TCP by every way, and UDP.
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

// Who waits for the only tuple gets it soon after its peer has closed first, though the kernel refuses it for as long as the
// peer's last word is under way.
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

// parkedFor is how long a tuple rests that is refused.
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

// A dial that looks whether another process has a UDP tuple does not take that one's datagrams meanwhile.
func TestExclusiveUDPTakesNobodysDatagrams(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	to, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9000})
	require.NoError(t, err)
	defer to.Close()
	exclusive := func() *dialer.Dialer { return &dialer.Dialer{UDP: pool("20000"), ExclusiveUDP: true} }
	c := dialUDP(t, exclusive(), to.LocalAddr().String())
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if c, err := exclusive().Dial("udp", to.LocalAddr().String()); err == nil {
				t.Error("two sockets with one tuple")
				c.Close()
			}
		}
	})
	b := make([]byte, 10)
	for range 3000 { // one at a time: no queue overflows
		_, err := to.WriteTo([]byte("x"), c.LocalAddr())
		require.NoError(t, err)
		c.SetReadDeadline(time.Now().Add(soon))
		_, err = c.Read(b)
		require.NoError(t, err)
	}
	close(stop)
	others.Wait()
}

// ExclusiveUDP sees link-local sockets too, which are bound to a device.
func TestExclusiveUDPSeesLinkLocalSockets(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	netns.AddAddr(t, netip.MustParsePrefix("fe80::1/64"))
	for _, sources := range [][]string{nil, {"fe80::1/128"}} {
		one := &dialer.Dialer{UDP: pool("20000", sources...), ExclusiveUDP: true}
		two := &dialer.Dialer{UDP: pool("20000", sources...), ExclusiveUDP: true}
		c := dialUDP(t, one, "[fe80::2%lo]:9")
		_, err := two.Dial("udp", "[fe80::2%lo]:9")
		require.ErrorIs(t, err, tuple.ErrExhausted)
		require.NoError(t, c.Close())
	}
}

// Dials that look at the same time from different sources do not stand in each other's way.
func TestExclusiveUDPFromManySources(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	to := echoUDP(t, "127.0.0.1:9000").String()
	for range 20 {
		d := &dialer.Dialer{UDP: pool("20000", "127.0.0.16/28"), ExclusiveUDP: true}
		var conns [16]net.Conn
		var errs [len(conns)]error
		var all sync.WaitGroup
		for i := range conns {
			all.Go(func() { conns[i], errs[i] = d.Dial("udp", to) })
		}
		all.Wait()
		for i, c := range conns {
			require.NoError(t, errs[i])
			require.NoError(t, c.Close())
		}
	}
}

// What the kernel chose, and what the caller asked for by number, counts for the owner too.
func TestMaxPerOwnerHoldsWhoeverChoseThePort(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40099") {
		return
	}
	dialer.ForceOldKernel()
	to := listen(t, "tcp", "127.0.0.1:9000")
	p := pool("40000-40099")
	p.MaxPerOwner = 3
	d := &dialer.Dialer{TCP: p, Owner: "a"}
	c, err := d.DialTCP(t.Context(), "tcp", netip.MustParseAddrPort("127.0.0.1:40007"), to.addrPort())
	require.NoError(t, err)
	t.Cleanup(func() { c.Abort() })
	dial(t, d, to.addr())
	dial(t, d, to.addr())
	_, err = d.Dial("tcp", to.addr())
	require.ErrorIs(t, err, tuple.ErrQuota)
	d.Owner = "b"
	dial(t, d, to.addr())
}

// A port that was asked for is not taken for one that is not the pool's, however often it comes free at this moment.
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

// Where no descriptor is left, a Tracker says so, and is as good as new when there is one.
func TestTrackerWithoutFileDescriptors(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	d := &dialer.Dialer{TCP: pool("20000-20009")}
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	lowest, err := unix.Dup(0)
	require.NoError(t, err)
	require.NoError(t, unix.Close(lowest))
	for more := range 3 { // fewer than it takes
		tracker := newTracker(t)
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(lowest + more), Max: limit.Max}))
		_, err := tracker.NetDialer(d)
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		if more < 2 {
			require.ErrorIs(t, err, syscall.EMFILE)
		}
		_, err = tracker.NetDialer(d)
		require.NoError(t, err)
		require.NoError(t, tracker.Close())
		again, err := unix.Dup(0)
		require.NoError(t, err)
		require.Equal(t, lowest, again, "no descriptor is lost")
		require.NoError(t, unix.Close(again))
	}
}
