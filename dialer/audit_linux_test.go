package dialer_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// requireAgreement requires that the kernel agrees with the pools. It ignores tuples that may have been closed a minute
// ago, because the pool counts from our close and the kernel from the peer's. It also ignores tuples that an older
// kernel chose itself and whose port nobody saw.
func requireAgreement(t testing.TB, network string, pools ...*tuple.Pool) {
	t.Helper()
	kernels, err := dialer.HostPorts()
	require.NoError(t, err)
	for _, p := range pools {
		list, err := dialer.Audit(network, p)
		require.NoError(t, err)
		for _, d := range list {
			isOld := d.Kernel == "TIME-WAIT" && d.Expires < 30*time.Second
			if !isOld && (dialer.HasRangeLane() || !kernels.Contains(d.Tuple.Src().Port())) {
				require.Fail(t, d.String())
			}
		}
	}
}

// requireDifference requires that Audit finds this difference and no other.
func requireDifference(t testing.TB, network string, p *tuple.Pool, want dialer.Difference, says string) {
	t.Helper()
	list, err := dialer.Audit(network, p)
	require.NoError(t, err)
	require.Len(t, list, 1)
	got := list[0]
	require.Contains(t, got.String(), says)
	if want.Kernel == "TIME-WAIT" {
		require.Greater(t, got.Expires, 30*time.Second)
		got.Expires = 0
	}
	got.UID = 0
	require.Equal(t, want, got)
}

// audited runs f in all places where Audit is tested: towards and from IPv4 and IPv6, with and without sources, on the
// kernel's own ports and on others.
func audited(t *testing.T, f func(t *testing.T, to *peer, p *tuple.Pool, port uint16)) {
	port := uint16(0)
	for _, to := range []*peer{listen(t, "tcp", "127.0.0.1:9000"), listen(t, "tcp", "[::1]:9000")} {
		for _, from := range []string{"", "from a source"} {
			for _, first := range []uint16{40000, 20000} {
				port += 10
				t.Run(fmt.Sprintf("to=%v/%s/ports=%d", to.Addr(), from, first), func(t *testing.T) {
					p := pool(fmt.Sprintf("%d-%d", first+port, first+port+9))
					if ip := to.addrPort().Addr(); from != "" {
						p.Sources = []netip.Prefix{netip.PrefixFrom(ip, ip.BitLen())}
					}
					f(t, to, p, first+port)
				})
			}
		}
	}
}

// Audit finds each kind of difference, with the state in the kernel, and reports nothing when it is gone.
func TestAuditSaysWhatDiffers(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999", "net.ipv4.tcp_tw_reuse=0") {
		return
	}
	audited(t, func(t *testing.T, to *peer, p *tuple.Pool, port uint16) {
		d := &dialer.Dialer{TCP: p}
		ip := to.addrPort().Addr()
		real := tuple.From(netip.AddrPortFrom(ip, port), to.addrPort())
		requireAgreement(t, "tcp", p)

		leaked, err := p.TryAcquire(to.addrPort())
		require.NoError(t, err)
		requireDifference(t, "tcp", p, dialer.Difference{Tuple: leaked, Pool: tuple.InUse}, "the kernel has no socket")
		require.True(t, p.Release(leaked))

		t.Run("foreign", func(t *testing.T) {
			explicit(true)(t, to, port)
			requireDifference(t, "tcp", p,
				dialer.Difference{Tuple: real, Pool: tuple.Free, Kernel: "ESTAB", Sockets: 1},
				"free in the pool, and the kernel has it in ESTAB")
		})
		requireAgreement(t, "tcp", p)

		c := dial(t, d, to.addr())
		to.accept(t, c) // so that it is not taken for the next connection from its port
		own := tuple.From(local(c), to.addrPort())
		require.True(t, p.Retire(c.Tuple(), time.Hour), "too soon")
		requireDifference(t, "tcp", p,
			dialer.Difference{Tuple: own, Pool: tuple.Retired, Kernel: "ESTAB", Sockets: 1},
			"cooling down in the pool, and the kernel has it in ESTAB")
		reset(c)
		requireAgreement(t, "tcp", p)

		free := port + 1
		if free == own.Src().Port() { // which cools down
			free++
		}
		other := pool(fmt.Sprint(free))
		c = dial(t, &dialer.Dialer{TCP: other}, to.addr())
		require.NoError(t, c.CloseWrite())
		require.NoError(t, to.accept(t, c).Close())
		require.NoError(t, c.Close())
		awaitTimeWait(t, c.Tuple(), to)
		rests := tuple.From(netip.AddrPortFrom(ip, free), to.addrPort())
		requireDifference(t, "tcp", p,
			dialer.Difference{Tuple: rests, Pool: tuple.Free, Kernel: "TIME-WAIT", Sockets: 1},
			"in TIME-WAIT for another ")
		requireAgreement(t, "tcp", other)
		require.True(t, p.Reserve(rests))

		for _, at := range []netip.Addr{ip, netip.IPv6Unspecified()} {
			l, err := net.Listen("tcp", netip.AddrPortFrom(at, port+3).String())
			require.NoError(t, err)
			on := tuple.From(netip.AddrPortFrom(at, port+3), netip.AddrPort{})
			requireDifference(t, "tcp", p, dialer.Difference{Tuple: on, Kernel: "LISTEN", Sockets: 1},
				"remove it from the pool's Ports")
			require.NoError(t, l.Close())
		}
		requireAgreement(t, "tcp", p)
	})
}

// Audit does not report connections that only look like a difference.
func TestAuditReportsNoConnectionThatIsInOrder(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	silent := blackhole(t, "127.0.0.1:9001")
	audited(t, func(t *testing.T, to *peer, p *tuple.Pool, port uint16) {
		d := &dialer.Dialer{TCP: p}
		open := dial(t, d, to.addr())

		orphan := dial(t, d, to.addr())
		a := to.accept(t, orphan)
		require.NoError(t, orphan.Close()) // FIN-WAIT-2 for as long as the peer does not close
		require.Eventually(t, func() bool { return kernelState(t, orphan.Tuple(), to) != 0 }, soon, time.Millisecond)

		bare := dial(t, d, to.addr())
		require.NoError(t, bare.NetConn().Close()) // the tuple is still in use

		over := dial(t, d, to.addr())
		require.NoError(t, over.CloseWrite())
		require.NoError(t, to.accept(t, over).Close())
		awaitTimeWait(t, over.Tuple(), to) // the TCPConn is not closed

		require.Equal(t, tuple.Stats{InUse: 3, Retired: 1, Destinations: 1}, p.Stats())
		t4, err := p.TryAcquire(to.addrPort())
		require.NoError(t, err)
		require.True(t, p.Retire(t4, time.Hour)) // longer than in the kernel

		if to.addrPort().Addr().Is4() {
			ctx, cancel := context.WithCancel(context.Background())
			var dialing sync.WaitGroup
			defer dialing.Wait()
			defer cancel()
			dialing.Go(func() { d.DialContext(ctx, "tcp", silent) })
			require.Eventually(t, func() bool { return p.Stats().Destinations == 2 }, soon, time.Millisecond)
		}

		listen(t, "tcp", netip.AddrPortFrom(to.addrPort().Addr(), port+200).String()) // a port outside the pool
		if len(p.Sources) > 0 && to.addrPort().Addr().Is4() {
			listen(t, "tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), port).String())
			explicitFrom(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), port+1), to)
		}
		requireAgreement(t, "tcp", p)
		a.Close()
		reset(open)
		requireAgreement(t, "tcp", p)
	})
}

// explicitFrom connects from an address that is not in the pool.
func explicitFrom(t *testing.T, from netip.AddrPort, to *peer) {
	nd := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}
	c, err := nd.Dial("tcp", to.addr())
	require.NoError(t, err)
	t.Cleanup(func() { c.(*net.TCPConn).SetLinger(0); c.Close() })
}

// The pools have few ports, so that each changes hands all the time. Only others dial from the ports of one of them.
func TestAuditReportsNothingThatIsUnderWay(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	to := listenAndHangUp(t, "tcp", "127.0.0.1:9000")
	udp := echoUDP(t, "127.0.0.1:9000").String()
	refused := closedPort(t, "127.0.0.1")
	for _, ports := range []string{"40000", "20000-20001"} {
		p, u, idle, others := pool(ports), pool(ports), pool("30000"), pool("30000")
		d := &dialer.Dialer{TCP: p, UDP: u}
		stop := make(chan struct{})
		var all sync.WaitGroup
		for _, dial := range []func(){
			func() {
				if c, err := d.Dial("tcp", to.Addr().String()); err == nil {
					reset(c.(*dialer.TCPConn))
				}
			},
			func() { d.Dial("tcp", refused) },
			func() {
				if c, err := (&dialer.Dialer{TCP: others}).Dial("tcp", to.Addr().String()); err == nil {
					time.Sleep(time.Millisecond)
					reset(c.(*dialer.TCPConn))
				}
			},
			func() {
				if c, err := d.Dial("udp", udp); err == nil {
					c.Close()
				}
			},
		} {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						dial()
					}
				}
			})
		}
		for range 6 {
			requireAgreement(t, "tcp", p)
			requireAgreement(t, "udp", u)
			list, err := dialer.Audit("tcp", idle)
			require.NoError(t, err)
			for _, d := range list { // a SYN that a busy listener dropped is sent again after a second
				require.Equal(t, "SYN-SENT", d.Kernel, "%v", d)
			}
		}
		close(stop)
		all.Wait()
		require.Zero(t, p.Stats().InUse)
	}
}

// The kernel lets two UDP sockets have one tuple. Audit reports that; a pool cannot.
func TestAuditFindsTwoSocketsWithOneTuple(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	for _, address := range []string{"127.0.0.1:9000", "[::1]:9000"} {
		to := echoUDP(t, address)
		p := pool("20000")
		first := dialUDP(t, &dialer.Dialer{UDP: p}, address)
		requireAgreement(t, "udp", p)
		second := dialUDP(t, &dialer.Dialer{UDP: pool("20000"), SharedUDP: true}, address)
		require.Equal(t, localUDP(first), localUDP(second))
		want := dialer.Difference{
			Tuple: tuple.From(localUDP(first), to), Pool: tuple.InUse, Kernel: "ESTAB", Sockets: 2,
		}
		requireDifference(t, "udp", p, want, "in use in the pool, and the kernel has 2 sockets")
		require.NoError(t, second.Close())
		requireAgreement(t, "udp", p)
		require.NoError(t, first.Close())
		requireAgreement(t, "udp", p)

		l, err := net.ListenPacket("udp", netip.AddrPortFrom(to.Addr(), 20000).String())
		require.NoError(t, err)
		want = dialer.Difference{
			Tuple: tuple.From(netip.AddrPortFrom(to.Addr(), 20000), netip.AddrPort{}), Kernel: "UNCONN", Sockets: 1,
		}
		requireDifference(t, "udp", p, want, "remove it from the pool's Ports")
		require.NoError(t, l.Close())
	}
}

// Under a Scope, connections from one port to two destinations look the same behind the NAT. From two addresses they do
// not.
func TestAuditFollowsTheScope(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	one, two := listen(t, "tcp", "127.0.0.1:9000"), listen(t, "tcp", "127.0.0.1:9001")
	scope := netip.MustParseAddrPort("198.51.100.1:80")
	for i, sources := range [][]string{nil, {"127.0.0.1/32"}} {
		port := uint16(20000 + i)
		p := pool(fmt.Sprint(port), sources...)
		// A scope itself has another scope, which the pool must not ask for.
		p.Scope = func(dst netip.AddrPort) netip.AddrPort {
			if dst == scope {
				return netip.MustParseAddrPort("198.51.100.2:80")
			}
			return scope
		}
		t.Run(strings.Join(sources, ""), func(t *testing.T) {
			c := dial(t, &dialer.Dialer{TCP: p}, one.addr())
			requireAgreement(t, "tcp", p)
			explicitShared(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), port), two)
			requireAgreement(t, "tcp", p)
			explicit(true)(t, two, port)
			list, err := dialer.Audit("tcp", p)
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.Equal(t, 2, list[0].Sockets)
			require.Equal(t, local(c), list[0].Tuple.Src())
			reset(c)
		})
		leaked, err := p.TryAcquire(one.addrPort())
		require.NoError(t, err)
		in := tuple.From(leaked.Src(), scope)
		requireDifference(t, "tcp", p, dialer.Difference{Tuple: in, Pool: tuple.InUse}, "no socket")
	}
}

func explicitShared(t *testing.T, from netip.AddrPort, to *peer) {
	p := pool(fmt.Sprint(from.Port()), from.Addr().String()+"/32")
	reset := dial(t, &dialer.Dialer{TCP: p}, to.addr())
	t.Cleanup(func() { reset.SetLinger(0); reset.Close() })
}

func TestAuditAndAdoptKnowTwoNetworks(t *testing.T) {
	for _, network := range []string{"", "tcp4", "unix"} {
		_, err := dialer.Audit(network, pool("20000"))
		require.ErrorAs(t, err, new(net.UnknownNetworkError))
		_, err = dialer.Adopt(network, pool("20000"))
		require.ErrorAs(t, err, new(net.UnknownNetworkError))
		_, err = dialer.ListeningPorts(network)
		require.ErrorAs(t, err, new(net.UnknownNetworkError))
	}
}

// hasSocket finds a socket that a walk missed: by both ends or, if the local address is not known, by its port.
func TestHasSocket(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	at := netip.MustParseAddrPort
	for _, family := range []struct{ ip, any string }{{"127.0.0.1", "0.0.0.0"}, {"[::1]", "[::]"}} {
		to := listen(t, "tcp", family.ip+":9000")
		peer := echoUDP(t, family.ip+":9000")
		d := &dialer.Dialer{TCP: pool("20000"), UDP: pool("20000")}
		dial(t, d, to.addr())
		dialUDP(t, d, peer.String())
		for _, network := range []string{"tcp", "udp"} {
			for _, c := range []struct {
				local, remote string
				want          bool
			}{
				{family.ip + ":20000", family.ip + ":9000", true},
				{family.any + ":20000", family.ip + ":9000", true},
				{family.ip + ":20001", family.ip + ":9000", false},
				{family.any + ":20001", family.ip + ":9000", false},
				{family.any + ":20000", family.ip + ":9001", false},
			} {
				got, err := dialer.HasSocket(network, at(c.local), at(c.remote))
				require.NoError(t, err)
				require.Equal(t, c.want, got, "%s %v", network, c)
			}
		}
	}
}
