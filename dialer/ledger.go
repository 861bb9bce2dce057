package dialer

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/access"
	"github.com/ephemera-go/ephemera/tuple"
)

// pools are the methods of a pool that only this package uses.
var pools = access.Of[tuple.Pool, tuple.Tuple, tuple.State, alloc.Set]()

// ledger is what this package remembers of a pool: it lies in the pool, and goes when the pool does.
type ledger struct {
	host     bool                     // it is the HostPool, or one of its kind
	followed atomic.Pointer[settings] // those that the ports of the pool follow

	rounds    atomic.Uint64 // how often an account was compared with the kernel
	mu        sync.Mutex
	ports     alloc.Set               // what followed came to, and
	allowed   alloc.Set               // without those on which somebody listened,
	listened  time.Time               // at this time
	paces     map[netip.AddrPort]pace // see reconcile
	bars      map[uint16]time.Time    // ports that a policy forbids to bind, and until when
	forbidden struct {
		err   error // what bind(2) said last to a port that a policy forbids
		until time.Time
	}
	remote map[tuple.Tuple]netip.AddrPort // of tuples in use whose destination the kernel exchanged

	backends map[netip.AddrPort][]netip.AddrPort // by the destination that was dialled
}

// mostTranslated bounds how many destinations have backends that are remembered, and mostBackends how many each has.
const mostTranslated, mostBackends = 1024, 16

// ledgerOf returns the ledger of a pool.
func ledgerOf(p *tuple.Pool) *ledger {
	slot := pools.Slot(p)
	if l, ok := slot.Load().(*ledger); ok {
		return l
	}
	slot.CompareAndSwap(nil, new(ledger))
	return slot.Load().(*ledger)
}

// follow keeps the ports of a pool whose field Ports is zero to those that the host gives to everybody, as s says:
// without the reserved ones, those on which somebody listened when they changed last and, in a HostPool, those
// outside the kernel's own range. A port on which somebody begins to listen later is refused by the kernel.
func (l *ledger) follow(p *tuple.Pool, network string, s *settings) {
	if !isImplicit(p) || l.followed.Load() == s || s.portsErr != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ports := s.kernels
	if !l.host {
		ports = alloc.RangeSet(1024, 65535).Difference(s.reserved)
	}
	if !ports.Equal(l.ports) {
		l.allow(p, network, ports)
	}
	l.followed.Store(s)
}

// allow gives the pool these ports, without those on which somebody listens now. It reports whether that changed
// anything.
func (l *ledger) allow(p *tuple.Pool, network string, ports alloc.Set) (changed bool) {
	allowed := ports
	if listening, err := ListeningPorts(network); err == nil && ports.Difference(listening).Len() > 0 {
		allowed = ports.Difference(listening)
	}
	l.listened = time.Now()
	if allowed.Equal(l.allowed) || pools.SetPorts(p, allowed) != nil {
		return false
	}
	l.ports, l.allowed = ports, allowed
	return true
}

// relistenAfter is how long after a look at who listens another one is worth it: it takes up to 3 ms.
const relistenAfter = 100 * time.Millisecond

// relisten gives the pool the ports on which somebody has ceased to listen, if it follows the host.
func (l *ledger) relisten(p *tuple.Pool, network string) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ports.IsZero() || time.Since(l.listened) < relistenAfter {
		return false
	}
	return l.allow(p, network, l.ports)
}

// isImplicit reports whether nobody named the ports of a pool, so that any port that net.Dialer would use will do.
func isImplicit(p *tuple.Pool) bool { return p.Ports.IsZero() }

// translate notes that the kernel connected the tuple t, which is in use, to another address than the dialled one: a
// BPF program of a load balancer does that.
func (l *ledger) translate(t tuple.Tuple, dialled, remote netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.remote == nil {
		l.remote, l.backends = make(map[tuple.Tuple]netip.AddrPort), make(map[netip.AddrPort][]netip.AddrPort)
	}
	l.remote[t] = remote
	known := l.backends[dialled]
	if slices.Contains(known, remote) {
		return
	}
	if len(l.backends) >= mostTranslated {
		clear(l.backends)
	}
	l.backends[dialled] = append(known[max(0, len(known)-mostBackends+1):len(known):len(known)], remote)
}

// ways returns where connections to a destination lead in the kernel, so far as that is known: there, and to its
// backends.
func (l *ledger) ways(dialled netip.AddrPort) []netip.AddrPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]netip.AddrPort{dialled}, l.backends[dialled]...)
}

// forget undoes translate.
func (l *ledger) forget(t tuple.Tuple) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.remote, t)
}

// translated returns where the kernel connected the tuples whose destinations it exchanged.
func (l *ledger) translated() map[tuple.Tuple]netip.AddrPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	copied := make(map[tuple.Tuple]netip.AddrPort, len(l.remote))
	for t, remote := range l.remote {
		copied[t] = remote
	}
	return copied
}

// bar notes that a policy forbids to bind a port, and until when.
func (l *ledger) bar(port uint16, r refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forbidden.err, l.forbidden.until = r.err, time.Now().Add(r.freeIn)
	if l.bars == nil {
		l.bars = make(map[uint16]time.Time)
	}
	l.bars[port] = time.Now().Add(r.freeIn)
}

// forbids returns what a bind(2) said to a port that a policy forbids, if there is such a port now; nil else.
func (l *ledger) forbids() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.forbidden.until) {
		return l.forbidden.err
	}
	return nil
}

// barred returns the ports that a policy forbids to bind now.
func (l *ledger) barred() map[uint16]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ports, now := make(map[uint16]bool, len(l.bars)), time.Now()
	for port, until := range l.bars {
		if now.Before(until) {
			ports[port] = true
		} else {
			delete(l.bars, port)
		}
	}
	return ports
}
