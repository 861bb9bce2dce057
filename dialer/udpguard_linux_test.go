package dialer_test

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// A UDP dial skips the tuples of other sockets, and only those.
func TestUDPGuardSeesOtherPrograms(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	for i, family := range []struct{ ip, source string }{
		{"127.0.0.1", ""}, {"127.0.0.1", "127.0.0.1/32"}, {"::1", ""}, {"::1", "::1/128"},
	} {
		to := echoUDP(t, net.JoinHostPort(family.ip, fmt.Sprint(9000+i)))
		other := echoUDP(t, net.JoinHostPort(family.ip, fmt.Sprint(9010+i)))
		p := pool("40000-40003")
		if family.source != "" {
			p = pool("40000-40003", family.source)
		}
		foreign := &dialer.Dialer{UDP: pool("40001-40002")}
		dialUDP(t, foreign, to.String())
		dialUDP(t, foreign, to.String())
		d := &dialer.Dialer{UDP: p}
		got := map[uint16]bool{
			localUDP(dialUDP(t, d, to.String())).Port(): true,
			localUDP(dialUDP(t, d, to.String())).Port(): true,
		}
		require.Equal(t, map[uint16]bool{40000: true, 40003: true}, got)
		_, err := d.Dial("udp", to.String())
		require.ErrorIs(t, err, tuple.ErrExhausted)
		require.ErrorContains(t, err, "(2 in use, 2 taken")
		for range 4 {
			dialUDP(t, d, other.String())
		}
	}
}

// A dial that checks whether another process has a UDP tuple does not take its datagrams meanwhile.
func TestUDPGuardTakesNobodysDatagrams(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	to, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9000})
	require.NoError(t, err)
	defer to.Close()
	another := func() *dialer.Dialer { return &dialer.Dialer{UDP: pool("20000")} }
	c := dialUDP(t, another(), to.LocalAddr().String())
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if c, err := another().Dial("udp", to.LocalAddr().String()); err == nil {
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

// A UDP dial also sees link-local sockets, which are bound to a device.
func TestUDPGuardSeesLinkLocalSockets(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	netns.AddAddr(t, netip.MustParsePrefix("fe80::1/64"))
	for _, sources := range [][]string{nil, {"fe80::1/128"}} {
		one := &dialer.Dialer{UDP: pool("20000", sources...)}
		two := &dialer.Dialer{UDP: pool("20000", sources...)}
		c := dialUDP(t, one, "[fe80::2%lo]:9")
		_, err := two.Dial("udp", "[fe80::2%lo]:9")
		require.ErrorIs(t, err, tuple.ErrExhausted)
		require.NoError(t, c.Close())
	}
}

// Dials that check at the same time from different sources do not hinder each other.
func TestUDPGuardLooksFromManySourcesAtATime(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	to := echoUDP(t, "127.0.0.1:9000").String()
	for range 20 {
		d := &dialer.Dialer{UDP: pool("20000", "127.0.0.16/28")}
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
