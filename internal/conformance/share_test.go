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

// Each library holds as many connections to each of three servers as there are ports, all at once. So there are three
// times as many connections as ports, and each port serves all three servers. One port is in the kernel's own range,
// the other is not.
const (
	servers = 3
	each    = 2 // connections to each server, and ports
	inRange = 40000
	outside = 20000

	source = "127.0.0.9" // at which no server listens
)

// soon bounds how long a test waits for what must come about; it is no measurement.
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

// newTracker makes a Tracker that is closed when the test ends: after that nothing of it runs, or TestMain fails.
func newTracker(t *testing.T) *dialer.Tracker {
	t.Helper()
	tracker := new(dialer.Tracker)
	t.Cleanup(func() { require.NoError(t, tracker.Close()) })
	return tracker
}

// calls are what a test has running: one for each connection that it holds.
type calls struct {
	running sync.WaitGroup
	errs    chan error
}

// forEach runs f for each of the connections, all at once.
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

// wait waits until they have all come back, without an error.
func (c *calls) wait(t *testing.T) {
	t.Helper()
	c.running.Wait()
	close(c.errs)
	for err := range c.errs {
		require.NoError(t, err)
	}
}

// opened are the connections that the calls have left open.
type opened[C io.Closer] struct {
	mu  sync.Mutex
	all []C
}

func (o *opened[C]) add(c C) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, c)
}

// keep adds what a dial has returned, unless that is an error.
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

// gate keeps what comes to the servers until all of it has come, and the test has looked at the connections.
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

// pass is what a server calls for each request.
func (g *gate) pass() {
	g.arrived <- struct{}{}
	<-g.opened
}

// await waits until the request of each call has come.
func (g *gate) await(t *testing.T, c *calls) {
	t.Helper()
	for n := range each * servers {
		select {
		case <-g.arrived:
		case err := <-c.errs:
			require.NoError(t, err)
		case <-time.After(soon):
			require.FailNow(t, "requests do not come", "%d of %d did", n, each*servers)
		}
	}
}

// requireShared asks the kernel: each of the ports has a connection to each of the servers, and no other.
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

// requireNothingHeld waits until every tuple was given back, and the kernel has no connection left either.
func requireNothingHeld(t *testing.T, d *dialer.Dialer) {
	t.Helper()
	require.Eventually(t, func() bool {
		return d.TCP.Stats().InUse == 0 && d.UDP.Stats().InUse == 0
	}, soon, time.Millisecond, "the library has closed its connections")
	for _, protocol := range []sockdiag.Protocol{sockdiag.TCP, sockdiag.UDP} {
		for s, err := range established(protocol).All() {
			require.NoError(t, err)
			require.Fail(t, "a tuple was given back before its connection was closed", "%v", s)
		}
	}
}

// listeners listens at three addresses that differ in the port alone.
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
