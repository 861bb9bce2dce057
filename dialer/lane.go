package dialer

import (
	"sync/atomic"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// lane is a way to get a local port.
//
// It follows from the port alone, so that all processes of a host agree: the range lane and the bind lane do not mix on one
// port. The range lane takes a few hundred nanoseconds more than a plain dial, however many destinations share the port, and
// coexists with the kernel's own choices; but the kernel grants it only the ports that it would choose itself. In the bind
// lane the kernel walks all sockets on the port: 9 µs for 100 destinations, 77 µs for 1,000.
//
// A kernel before Linux 6.3 has no range lane. Its own ports are left to itself then, and the pool enters what it chose: a
// port in the bind lane is lost to the plain dials of every other program. They are bound all the same if the pool has but a
// part of them, for the kernel knows nothing of that part, and if it chose one that cools down in the pool: it takes the even
// ones first, and so the same ones again.
type lane uint8

const (
	plainLane  lane = iota // as net.Dialer does it: not Linux, or a UDP port that no pool has
	rangeLane              // IP_LOCAL_PORT_RANGE names the one port
	bindLane               // SO_REUSEADDR, and bind(2) to the port
	kernelLane             // the kernel chooses, when the socket connects
)

// kernelFacts is what the lanes depend on, in one network namespace.
type kernelFacts struct {
	kernels   alloc.Set // the ports that the kernel chooses among
	ranged    bool      // they take the range lane
	namespace uint64    // 0 if the kernel does not tell: Linux 5.14
	read      time.Time
}

// facts are those of the namespace that was dialled in last. Few programs have several; there an attempt finds out that they
// are another one's by the port that came out, or in the bind lane by the socket's namespace.
var facts atomic.Pointer[kernelFacts]

// staleFacts is the age at which facts that may be wrong are read again, 20 µs of work.
const staleFacts = time.Second

// exact and kernelHas are seams for tests: another system, and an older kernel.
var (
	exact     = sockopt.Supported
	kernelHas = sockopt.Kernel
)

// lane returns the lane of t, which is held in pool, or in none if pool is nil.
//
// UDP takes the bind lane, for the kernel does not let UDP sockets share a port of its own choice. It accepts two sockets with
// one tuple there, so where no pool keeps them apart the port is bound for one socket alone.
func (a *attempt) lane(t tuple.Tuple, pool *tuple.Pool) lane {
	switch {
	case !exact, a.udp && pool == nil:
		return plainLane
	case a.udp:
		return bindLane
	}
	if a.facts == nil {
		if a.facts = facts.Load(); a.facts == nil {
			a.readFacts()
		}
	}
	switch {
	case !a.facts.kernels.Contains(t.Src().Port()):
		return bindLane
	case a.facts.ranged:
		return rangeLane
	case a.local.Port() == 0 && !a.bind && hasAll(pool, a.facts.kernels):
		return kernelLane
	}
	return bindLane
}

// hasAll reports whether the pool has all of the ports.
func hasAll(pool *tuple.Pool, ports alloc.Set) bool {
	if pool.Ports.IsZero() {
		return ports.Difference(alloc.RangeSet(1024, 65535)).Len() == 0
	}
	return ports.Difference(pool.Ports).Len() == 0
}

// readFacts keeps what was known if the answer is not to be had, for want of a file descriptor for instance.
func (a *attempt) readFacts() {
	ports, err := HostPorts()
	can, err2 := kernelHas()
	switch {
	case err == nil && err2 == nil:
		a.facts = &kernelFacts{ports, can.PortRange, can.Namespace, time.Now()}
		facts.Store(a.facts)
	case a.facts == nil:
		a.facts = new(kernelFacts)
	}
}

// otherNamespace has the facts read of the namespace that a socket turned out to be in.
func (a *attempt) otherNamespace() {
	before := a.facts
	if a.readFacts(); a.facts.namespace == before.namespace { // they are not to be had
		unknown := *before
		unknown.namespace = 0
		a.facts = &unknown
	}
}
