package netns

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon is how long a test waits for something that must happen.
const soon = 20 * time.Second

// echo runs an echo server for TCP on h until the test ends, and returns its address.
func echo(t *testing.T, h *Host, ip netip.Addr) string {
	t.Helper()
	var l net.Listener
	h.Do(func() {
		var err error
		l, err = net.Listen("tcp", netip.AddrPortFrom(ip, 0).String())
		require.NoError(t, err)
	})
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer context.AfterFunc(ctx, func() { _ = c.Close() })() // the link may be cut
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// ask sends a byte, waits until it comes back, and returns the time between.
func ask(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	begin := time.Now()
	require.NoError(t, c.SetDeadline(begin.Add(soon)))
	_, err := c.Write([]byte{1})
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 1))
	require.NoError(t, err)
	return time.Since(begin)
}

func dialIt(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{Timeout: soon}).Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Each round trip takes twice the delay, also that of a handshake, for IPv4 and IPv6.
func TestLinkDelays(t *testing.T) {
	if !Isolate(t) {
		return
	}
	const oneWay = 30 * time.Millisecond
	w := NewLink(t, Link{OneWay: oneWay})
	for _, ip := range []netip.Addr{w.Far.Addr, w.Far.Addr6} {
		if !ip.IsValid() {
			continue
		}
		address := echo(t, &w.Far, ip)
		begin := time.Now()
		c := dialIt(t, address)
		require.GreaterOrEqual(t, time.Since(begin), 2*oneWay)
		fastest := ask(t, c)
		for range 4 {
			took := ask(t, c)
			require.GreaterOrEqual(t, took, 2*oneWay)
			fastest = min(fastest, took)
		}
		t.Logf("%v for a round trip of %v", fastest, 2*oneWay)
	}
	require.Zero(t, w.Lost())
}

// A link loses about the given share of the packets. The test sends datagrams, which are not sent again.
func TestLinkLoses(t *testing.T) {
	if !Isolate(t) {
		return
	}
	for _, loss := range []float64{0, 0.5, 1} {
		w := NewLink(t, Link{Loss: loss, Seed: 3})
		var far net.PacketConn
		w.Far.Do(func() {
			var err error
			far, err = net.ListenPacket("udp4", netip.AddrPortFrom(w.Far.Addr, 0).String())
			require.NoError(t, err)
		})
		defer func() { _ = far.Close() }()
		near, err := net.Dial("udp4", far.LocalAddr().String())
		require.NoError(t, err)
		defer func() { _ = near.Close() }()
		const sent = 200
		for n := range sent {
			_, err := fmt.Fprint(near, n)
			require.NoError(t, err)
		}
		got := 0
		for {
			quiet := 200 * time.Millisecond
			if loss == 0 && got < sent {
				quiet = soon
			}
			require.NoError(t, far.SetReadDeadline(time.Now().Add(quiet)))
			if _, _, err := far.ReadFrom(make([]byte, 8)); err != nil {
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				break
			}
			got++
		}
		switch loss {
		case 0:
			require.Equal(t, sent, got)
		case 1:
			require.Zero(t, got)
			require.GreaterOrEqual(t, w.Lost(), sent)
		default:
			require.Greater(t, got, sent/4)
			require.Less(t, got, sent*3/4)
		}
		w.Close()
	}
}

// Connections work over a link that loses a few packets.
func TestTCPGetsThroughLoss(t *testing.T) {
	if !Isolate(t) {
		return
	}
	w := NewLink(t, Link{OneWay: time.Millisecond, Loss: 0.05, Seed: 1})
	address := echo(t, &w.Far, w.Far.Addr)
	c := dialIt(t, address)
	for range 50 {
		ask(t, c)
	}
	require.NotZero(t, w.Lost())
}

// A cut link carries nothing in either direction until it works again. Connections survive that.
func TestLinkIsCut(t *testing.T) {
	if !Isolate(t) {
		return
	}
	w := NewLink(t, Link{OneWay: 5 * time.Millisecond})
	address := echo(t, &w.Far, w.Far.Addr)
	c := dialIt(t, address)
	ask(t, c)
	w.Cut(true)
	_, err := c.Write([]byte{1})
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NotZero(t, w.Lost())
	w.Cut(false)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(soon)))
	_, err = io.ReadFull(c, make([]byte, 1))
	require.NoError(t, err)
	ask(t, c)
}

// Drop can lose the packets of one connection and not those of another.
func TestLinkDropsSome(t *testing.T) {
	if !Isolate(t) {
		return
	}
	w := NewLink(t, Link{})
	address := echo(t, &w.Far, w.Far.Addr)
	a, b := dialIt(t, address), dialIt(t, address)
	port := uint16(a.LocalAddr().(*net.TCPAddr).Port)
	w.Drop(func(packet []byte) bool {
		return packet[0]>>4 == 4 && len(packet) > 22 && binary.BigEndian.Uint16(packet[20:]) == port
	})
	_, err := a.Write([]byte{1})
	require.NoError(t, err)
	for range 20 {
		ask(t, b)
	}
	require.NoError(t, a.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = a.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// The far host of a veth link has its own ports and sysctls, and reaches further addresses of the near host.
func TestVeth(t *testing.T) {
	if !Isolate(t) {
		return
	}
	p := NewVeth(t)
	p.Far.Sysctl("net.ipv4.ip_local_port_range=50000 50001")
	before, err := os.ReadFile(portRange)
	require.NoError(t, err)
	p.Far.Do(func() {
		after, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
		require.NoError(t, err)
		require.Equal(t, "50000\t50001\n", string(after))
		p.Near.Do(func() {
			again, err := os.ReadFile(portRange)
			require.NoError(t, err)
			require.Equal(t, before, again)
		})
	})
	AddAddr(t, netip.MustParsePrefix("203.0.113.7/32"))
	for _, ip := range []netip.Addr{p.Far.Addr, p.Far.Addr6} {
		if !ip.IsValid() {
			continue
		}
		address := echo(t, &p.Far, ip)
		ask(t, dialIt(t, address))
		l, err := net.Listen("tcp", address[len(address)-6:])
		require.NoError(t, err, "the port is free on this side")
		require.NoError(t, l.Close())
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7)}, Timeout: soon}
	c, err := d.Dial("tcp", echo(t, &p.Far, p.Far.Addr))
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	ask(t, c)
}

// A closed link leaves no goroutine, no descriptor and no interface, and no thread in another namespace.
func TestLinkLeavesNothing(t *testing.T) {
	if !Isolate(t) {
		return
	}
	NewLink(t, Link{}).Close() // opens the poller of the runtime
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(entries)
	}
	before, ignore := files(), goleak.IgnoreCurrent()
	for range 5 {
		w := NewLink(t, Link{OneWay: time.Hour})
		u, err := net.Dial("udp4", netip.AddrPortFrom(w.Far.Addr, 9).String())
		require.NoError(t, err)
		_, err = u.Write([]byte{1}) // still on its way when the link goes
		require.NoError(t, err)
		require.NoError(t, u.Close())
		w.Far.Do(func() {})
		w.Close()
		w.Close()
	}
	goleak.VerifyNone(t, ignore)
	require.Equal(t, before, files())
	all, err := net.Interfaces()
	require.NoError(t, err)
	require.Len(t, all, 1)
	own, err := os.Readlink("/proc/self/ns/net")
	require.NoError(t, err)
	threads, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	for _, thread := range threads {
		namespace, err := os.Readlink("/proc/self/task/" + thread.Name() + "/ns/net")
		if err == nil { // it may have ended
			require.Equal(t, own, namespace)
		}
	}
}

// A goroutine that ends within Do leaves no thread in the namespace of the host.
func TestDoIsLeftByGoexit(t *testing.T) {
	if !Isolate(t) {
		return
	}
	p := NewVeth(t)
	for range 10 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.Far.Do(runtime.Goexit)
		}()
		<-done
	}
	interfaces, err := net.Interfaces()
	require.NoError(t, err)
	require.Len(t, interfaces, 2)
}

func TestSubjectLinksOutside(t *testing.T) {
	onlyAsSubject(t)
	NewLink(t, Link{})
}

// NewLink never changes the host's network.
func TestLinkOutsideFails(t *testing.T) {
	output, passed := behaviour(t, "TestSubjectLinksOutside")
	require.False(t, passed, output)
	require.Contains(t, output, "call Isolate first")
}
