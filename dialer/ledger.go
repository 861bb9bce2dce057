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

// ledger is what this package remembers of a pool. It is stored in the pool.
type ledger struct {
	host     bool                     // the pool is the HostPool, or one of its kind
	followed atomic.Pointer[settings] // the settings that the ports of the pool follow

	rounds    atomic.Uint64 // how often a destination was compared with the kernel
	mu        sync.Mutex
	ports     alloc.Set               // the ports by those settings, and
	allowed   alloc.Set               // the same without those that had a listener
	listened  time.Time               // at this time
	paces     map[netip.AddrPort]pace // see reconcile
	bars      map[uint16]time.Time    // ports that a policy forbids, and until when
	forbidden struct {
		err   error // the last answer of bind(2) to a port that a policy forbids
		until time.Time
	}
	remote map[tuple.Tuple]netip.AddrPort // of tuples in use whose destination the kernel changed

	backends map[netip.AddrPort][]netip.AddrPort // by the destination that was dialled
}

// mostTranslated is how many destinations have known backends, and mostBackends how many each of them has.
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

// follow updates the ports of a pool whose field Ports is zero to the settings s. It leaves out the reserved ports,
// those that had a listener when the settings last changed and, in a HostPool, all ports outside the kernel's own
// range. If a listener appears on a port later, the kernel refuses the port.
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

// allow gives the pool these ports without those that have a listener now. It reports whether that changed anything.
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

// relistenAfter is the least time between two looks at the listeners. A look takes up to 3 ms.
const relistenAfter = 100 * time.Millisecond

// relisten gives the pool the ports that have lost their listener, if it follows the host.
func (l *ledger) relisten(p *tuple.Pool, network string) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ports.IsZero() || time.Since(l.listened) < relistenAfter {
		return false
	}
	return l.allow(p, network, l.ports)
}

// isImplicit reports whether the pool does not name its ports, so that every port that net.Dialer would use is right.
func isImplicit(p *tuple.Pool) bool { return p.Ports.IsZero() }

// translate records that the kernel connected t, a tuple in use, to another address than the dialled one. A BPF program
// of a load balancer does that.
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

// ways returns the addresses to which connections to a destination lead, as far as known: the destination itself and
// its backends.
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

// translated returns where the kernel connected the tuples whose destinations it changed.
func (l *ledger) translated() map[tuple.Tuple]netip.AddrPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	copied := make(map[tuple.Tuple]netip.AddrPort, len(l.remote))
	for t, remote := range l.remote {
		copied[t] = remote
	}
	return copied
}

// bar records that a policy forbids binding a port, and for how long.
func (l *ledger) bar(port uint16, r refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forbidden.err, l.forbidden.until = r.err, time.Now().Add(r.freeIn)
	if l.bars == nil {
		l.bars = make(map[uint16]time.Time)
	}
	l.bars[port] = time.Now().Add(r.freeIn)
}

// forbids returns the last answer of bind(2) to a port that a policy forbids; nil if no port is forbidden now.
func (l *ledger) forbids() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.forbidden.until) {
		return l.forbidden.err
	}
	return nil
}

// barred returns the ports that a policy now forbids.
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
