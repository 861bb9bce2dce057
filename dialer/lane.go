package dialer

import (
	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// lane is a way to get a local port.
//
// The port decides the lane, so that all processes of a host agree: the range lane and the bind lane do not mix on one
// port. But somebody may have bound the port, or the range was moved over open sockets. So if the kernel refuses a port
// in one lane and has no socket on the tuple, the other lane is tried before the port counts as taken.
type lane uint8

const (
	noLane lane = iota

	// plainLane does as net.Dialer does. It is for systems other than Linux, and for UDP if the kernel is to choose.
	plainLane

	// rangeLane names the one port by IP_LOCAL_PORT_RANGE. The kernel accepts only ports that it would choose itself. A
	// dial costs a few hundred nanoseconds more than a plain one, however many destinations share the port. The kernel
	// can still choose the port for other sockets.
	rangeLane

	// bindLane sets SO_REUSEADDR and binds the port. The kernel walks all sockets on the port: 9 µs for 100
	// destinations, 77 µs for 1,000.
	bindLane

	// kernelLane lets the kernel choose the port when the socket connects. Before Linux 6.3 it comes before the bind
	// lane, because plain dials of other programs cannot use a bound port. It is also the last try for a pool that does
	// not name its ports.
	kernelLane

	// aloneLane binds a UDP port without SO_REUSEADDR, so that no other socket of the host has it. It shares the port
	// after the socket is connected.
	aloneLane

	// sharedLane binds a UDP port that other sockets have, and checks that none of them has the tuple.
	sharedLane
)

// binds reports whether the port is bound before the socket connects.
func (l lane) binds() bool {
	return l == bindLane || l == aloneLane || l == sharedLane || l == plainLane
}

// lanes returns the lanes for t in the order in which they are tried. pool is the one that holds t, nil if none does.
func (a *attempt) lanes(t tuple.Tuple, pool *tuple.Pool) [2]lane {
	switch port := t.Src().Port(); {
	case !exact:
		return [2]lane{plainLane}
	case a.leaveToKernel:
		return [2]lane{a.kernelsChoice()}
	case a.udp && pool == nil:
		return [2]lane{plainLane}
	case a.udp && a.d.SharedUDP:
		return [2]lane{bindLane}
	case a.udp:
		return [2]lane{aloneLane, sharedLane}
	case a.discarded: // the kernel's range moves while this goes on
		return [2]lane{bindLane}
	case a.settings.portsErr != nil && pool != nil && isImplicit(pool) && a.local.Port() == 0:
		return [2]lane{kernelLane}
	case !a.settings.kernels.Contains(port):
		return [2]lane{bindLane}
	case a.local.Port() != 0 && a.settings.ranged: // as net.Dialer: the kernel grants TIME_WAIT to a bound port
		return [2]lane{bindLane, rangeLane}
	case a.settings.ranged:
		return [2]lane{rangeLane, bindLane}
	case a.local.Port() == 0 && !a.kernelRefused && a.settings.names && hasAll(pool, a.settings.kernels):
		return [2]lane{kernelLane, bindLane}
	}
	return [2]lane{bindLane}
}

// kernelsChoice returns the lane in which the kernel chooses the port.
func (a *attempt) kernelsChoice() lane {
	if a.udp {
		return plainLane
	}
	return kernelLane
}

// hasAll reports whether the pool has all of the ports.
func hasAll(pool *tuple.Pool, ports alloc.Set) bool {
	return isImplicit(pool) || ports.Difference(pool.Ports).Len() == 0
}
