package conformance

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// Each library holds two connections to each of three servers at the same time, and has two ports. So there are three
// times as many connections as ports, and each port serves all three servers. One port is in the kernel's range, the
// other is not.
const (
	servers = 3
	each    = 2 // connections to each server, and ports
	inRange = 40000
	outside = 20000

	source = "127.0.0.9" // no server listens here
)

// soon is how long a test waits for something that must happen.
const soon = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newDialer() *dialer.Dialer {
	ports := alloc.RangeSet(inRange, inRange).Union(alloc.RangeSet(outside, outside))
	from := []netip.Prefix{netip.MustParsePrefix(source + "/32")}
	return &dialer.Dialer{
		TCP: &tuple.Pool{Sources: from, Ports: ports},
		UDP: &tuple.Pool{Sources: from, Ports: ports},
	}
}

// newTracker makes a Tracker and closes it at the end of the test. TestMain fails if a goroutine of it then still runs.
func newTracker(t *testing.T) *dialer.Tracker {
	t.Helper()
	tracker := new(dialer.Tracker)
	t.Cleanup(func() { require.NoError(t, tracker.Close()) })
	return tracker
}

// calls are the running calls of a test, one for each connection.
type calls struct {
	running sync.WaitGroup
	errs    chan error
}

// forEach runs f for all connections at the same time.
func forEach(to []netip.AddrPort, f func(server netip.AddrPort, i int) error) *calls {
	c := &calls{errs: make(chan error, each*len(to))}
	for _, server := range to {
		for i := range each {
			c.running.Go(func() {
				if err := f(server, i); err != nil {
					c.errs <- fmt.Errorf("connection %d to %v: %w", i, server, err)
				}
			})
		}
	}
	return c
}

// wait waits until all calls have returned. It fails the test if one returned an error.
func (c *calls) wait(t *testing.T) {
	t.Helper()
	c.running.Wait()
	close(c.errs)
	for err := range c.errs {
		require.NoError(t, err)
	}
}

// opened collects the connections that calls have left open.
type opened[C io.Closer] struct {
	mu  sync.Mutex
	all []C
}

func (o *opened[C]) add(c C) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, c)
}

// keep adds the result of a dial, unless it is an error.
func (o *opened[C]) keep(c C, err error) (C, error) {
	if err == nil {
		o.add(c)
	}
	return c, err
}

func (o *opened[C]) close(t *testing.T) {
	t.Helper()
	for _, c := range o.all {
		require.NoError(t, c.Close())
	}
}

// gate holds the requests at the servers until all of them have arrived, and the test has looked at the connections.
type gate struct {
	arrived chan struct{}
	opened  chan struct{}
	open    func()
}

func newGate(t *testing.T) *gate {
	opened := make(chan struct{})
	g := &gate{make(chan struct{}, each*servers), opened, sync.OnceFunc(func() { close(opened) })}
	t.Cleanup(g.open)
	return g
}

// pass waits until the gate is open. A server calls it for each request.
func (g *gate) pass() {
	g.arrived <- struct{}{}
	<-g.opened
}

// await waits until the request of each call has arrived.
func (g *gate) await(t *testing.T, c *calls) {
	t.Helper()
	for n := range each * servers {
		select {
		case <-g.arrived:
		case err := <-c.errs:
			require.NoError(t, err)
		case <-time.After(soon):
			require.FailNow(t, "requests do not arrive", "%d of %d did", n, each*servers)
		}
	}
}

// requireShared checks in the kernel that each port has a connection to each server, and no other.
func requireShared(t *testing.T, protocol sockdiag.Protocol, to []netip.AddrPort) {
	t.Helper()
	require.Len(t, to, servers)
	serves := map[uint16][]netip.AddrPort{}
	for s, err := range established(protocol).All() {
		require.NoError(t, err)
		serves[s.Local.Port()] = append(serves[s.Local.Port()], s.Remote)
	}
	require.Len(t, serves, each)
	for port, remotes := range serves {
		require.ElementsMatch(t, to, remotes, "the connections from port %d", port)
	}
}

func established(protocol sockdiag.Protocol) sockdiag.Query {
	return sockdiag.Query{
		Protocol: protocol,
		Local: sockdiag.Match{
			Prefixes: []netip.Prefix{netip.MustParsePrefix(source + "/32")},
			Ports:    []sockdiag.PortRange{{First: inRange}, {First: outside}},
		},
		States: sockdiag.StatesOf(sockdiag.Established),
	}
}

// requireNothingHeld waits until no tuple is in use, and checks that the kernel has no connection left.
func requireNothingHeld(t *testing.T, d *dialer.Dialer) {
	t.Helper()
	require.Eventually(t, func() bool {
		return d.TCP.Stats().InUse == 0 && d.UDP.Stats().InUse == 0
	}, soon, time.Millisecond, "a tuple is still in use after the library has closed its connections")
	for _, protocol := range []sockdiag.Protocol{sockdiag.TCP, sockdiag.UDP} {
		for s, err := range established(protocol).All() {
			require.NoError(t, err)
			require.Fail(t, "the tuple was released before its connection was closed", "%v", s)
		}
	}
}

// listeners listens at three ports of one address.
func listeners(t *testing.T) (all []net.Listener, at []netip.AddrPort) {
	t.Helper()
	for range servers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		all = append(all, l)
		at = append(at, l.Addr().(*net.TCPAddr).AddrPort())
	}
	return all, at
}
