package dialer_test

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// One local port serves several destinations at once in each lane, and the pool has the port that came out.
func TestOnePortServesManyDestinations(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=32768 60999") {
		return
	}
	lanes := []struct {
		name  string
		port  uint16
		force bool
	}{
		{"range", 40000, false},
		{"bind", 20000, false},
		{"bind forced", 50000, true},
	}
	families := []struct{ listen, source string }{
		{"127.0.0.1", ""}, {"127.0.0.1", "127.0.0.5"}, {"::1", ""}, {"::1", "::1"},
	}
	for _, lane := range lanes {
		for i, family := range families {
			t.Run(fmt.Sprintf("lane=%s/to=%s/from=%s", lane.name, family.listen, family.source), func(t *testing.T) {
				if lane.force {
					dialer.ForceBindLane(t)
				} else if lane.name == "range" && !dialer.HasRangeLane() {
					t.Skip("this kernel has no IP_LOCAL_PORT_RANGE: Linux 6.3")
				}
				port := lane.port + uint16(i)
				require.Equal(t, lane.name == "range", dialer.TakesRangeLane(port))
				p := pool(fmt.Sprint(port))
				if family.source != "" {
					ip := netip.MustParseAddr(family.source)
					p.Sources = []netip.Prefix{netip.PrefixFrom(ip, ip.BitLen())}
				}
				d := &dialer.Dialer{TCP: p}

				const destinations = 3
				var peers [destinations]*peer
				for i := range peers {
					peers[i] = listen(t, "tcp", net.JoinHostPort(family.listen, fmt.Sprint(9000+i)))
				}
				var conns [destinations]net.Conn
				var errs [destinations]error
				var all sync.WaitGroup
				for i, to := range peers {
					all.Go(func() { conns[i], errs[i] = d.Dial("tcp", to.addr()) })
				}
				all.Wait()
				for i, c := range conns {
					require.NoError(t, errs[i])
					tc := c.(*dialer.TCPConn)
					require.Equal(t, port, local(c).Port(), "the port of the pool")
					require.Equal(t, port, tc.Tuple().Src().Port())
					require.Equal(t, peers[i].addrPort(), tc.Tuple().Dst())
					if family.source != "" {
						require.Equal(t, family.source, local(c).Addr().String())
					}
				}
				require.Equal(t, tuple.Stats{InUse: destinations, Destinations: destinations}, p.Stats())
				for _, c := range conns {
					reset(c.(*dialer.TCPConn))
				}
				require.Equal(t, tuple.Stats{}, p.Stats())
			})
		}
	}
}

// The kernel refuses a reserved port in the range lane, so the dial uses the bind lane.
func TestReservedPortTakesTheBindLane(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999", "net.ipv4.ip_local_reserved_ports=40100-40101") {
		return
	}
	for _, port := range []uint16{40100, 40101} {
		require.False(t, dialer.TakesRangeLane(port))
	}
	require.Equal(t, dialer.HasRangeLane(), dialer.TakesRangeLane(40102))
	to := listen(t, "tcp", "127.0.0.1:9000")
	c := dial(t, &dialer.Dialer{TCP: pool("40100")}, to.addr())
	require.EqualValues(t, 40100, local(c).Port())
}

// The host's pool has the ports from which the kernel chooses, without the reserved ones.
func TestHostPortsAreTheKernelsRangeLessTheReserved(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40003",
		"net.ipv4.ip_local_reserved_ports=40001,50000-50010") {
		return
	}
	ports, err := dialer.HostPorts()
	require.NoError(t, err)
	require.Equal(t, "40000,40002-40003", ports.String())

	to := listen(t, "tcp", "127.0.0.1:9000")
	var d dialer.Dialer
	got := map[uint16]bool{}
	for range ports.Len() {
		got[local(dial(t, &d, to.addr())).Port()] = true
	}
	require.Equal(t, map[uint16]bool{40000: true, 40002: true, 40003: true}, got)
	_, err = d.Dial("tcp", to.addr())
	require.ErrorIs(t, err, tuple.ErrExhausted)
}

// A port that left the range, or was reserved, after the dialer read the settings still works on the first dial.
func TestPortThatLeftTheRangeStillWorks(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999", "net.ipv4.ip_local_reserved_ports=") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	for _, change := range []struct {
		name, sysctl, value string
		sources             []string
	}{
		{"moved", "net.ipv4.ip_local_port_range", "50000 50999", nil},
		{"shrunk", "net.ipv4.ip_local_port_range", "40200 40999", nil},
		{"moved, with a source", "net.ipv4.ip_local_port_range", "50000 50999", []string{"127.0.0.1/32"}},
	} {
		t.Run(change.name, func(t *testing.T) {
			sysctl(t, "net.ipv4.ip_local_port_range", "40000 40999")
			p := pool("40100", change.sources...)
			d := &dialer.Dialer{TCP: p}
			reset(dial(t, d, to.addr()))
			quietSysctl(t, change.sysctl, change.value)
			c := dial(t, d, to.addr())
			require.EqualValues(t, 40100, local(c).Port())
			reset(c)
			require.Equal(t, tuple.Stats{}, p.Stats())
		})
	}
}

// However the sysctl changes, each connection has the port of its tuple, and no dial fails.
func TestRangeThatChangesUnderRunningDialer(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40499") {
		return
	}
	dials := 400
	if testing.Short() {
		dials = 100
	}
	ranges := []string{"40000 40010", "45000 45100", "39000 40200", "30000 30999", "40000 40499"}
	var change atomic.Int32
	to := listenAndHangUp(t, "tcp", "127.0.0.1:9000")
	for _, sources := range [][]string{nil, {"127.0.0.1/32", "127.0.0.2/32"}} {
		p := pool("39900-40599", sources...)
		d := &dialer.Dialer{TCP: p}
		var dialing sync.WaitGroup
		for range 4 {
			dialing.Go(func() {
				for i := range dials {
					if i%2 == 0 {
						quietSysctl(t, "net.ipv4.ip_local_port_range", ranges[int(change.Add(1))%len(ranges)])
					}
					c, err := d.Dial("tcp", to.Addr().String())
					if err != nil {
						t.Error(err)
						return
					}
					tc := c.(*dialer.TCPConn)
					if tc.Tuple().Src().Port() != local(c).Port() || !p.Contains(tc.Tuple()) {
						t.Errorf("%v is connected from %v", tc.Tuple(), local(c))
					}
					reset(tc)
				}
			})
		}
		dialing.Wait()
		require.Zero(t, p.Stats().InUse)
	}
}
