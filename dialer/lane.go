package dialer

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// lane is a way to make the kernel use an exact local port.
//
// It follows from the port alone, so that all processes of a host agree: the two do not mix on one port. The range lane
// takes a few hundred nanoseconds more than a plain dial, however many destinations share the port, and coexists with the
// kernel's own choices; but the kernel grants it only the ports that it would choose itself. In the bind lane the kernel
// walks all sockets on the port: 9 µs for 100 destinations, 77 µs for 1,000.
type lane uint8

const (
	kernelLane lane = iota // the kernel chooses, or the caller: not Linux, or a UDP port that no pool has
	rangeLane              // IP_LOCAL_PORT_RANGE names the one port
	bindLane               // SO_REUSEADDR, and bind(2) to the port
)

// prepare makes a socket ready to connect from local, whose address may be left to the kernel, to an address of remote's
// family.
func (l lane) prepare(fd int, local netip.AddrPort, remote netip.Addr) error {
	switch l {
	case rangeLane:
		if err := sockopt.OnePort(fd, local.Port()); err != nil || !local.Addr().IsValid() {
			return err
		}
		return sockopt.BindAddress(fd, local.Addr()) // not by net.Dialer, which would try twice more if the host lacks it
	case bindLane:
		if err := sockopt.ShareBind(fd); err != nil || local.Addr().IsValid() || remote.Is4() {
			return err
		}
		return sockopt.OnlyIPv6(fd)
	}
	return nil
}

// kernelFacts is what the lanes depend on.
type kernelFacts struct {
	ranged alloc.Set // the ports of the range lane
	read   time.Time
}

var facts atomic.Pointer[kernelFacts]

// staleFacts is the age at which facts that may be wrong are read again, 20 µs of work.
const staleFacts = time.Second

func laneOf(port uint16) lane {
	if !sockopt.Supported {
		return kernelLane
	}
	f := facts.Load()
	if f == nil {
		f = readFacts()
	}
	if f.ranged.Contains(port) {
		return rangeLane
	}
	return bindLane
}

// lane returns the lane of t, which is held in pool, or in none if pool is nil. UDP takes the bind lane, for the kernel does
// not let UDP sockets share a port of its own choice. It accepts two sockets with one tuple there, so where no pool keeps them
// apart the port is bound for one socket alone.
func (a *attempt) lane(t tuple.Tuple, pool *tuple.Pool) lane {
	switch {
	case !a.udp:
		return laneOf(t.Src().Port())
	case pool == nil || !sockopt.Supported:
		return kernelLane
	}
	return bindLane
}

func factsAreStale() bool {
	f := facts.Load()
	return f != nil && time.Since(f.read) > staleFacts
}

// readFacts keeps what it knew if the answer is not to be had, for want of a file descriptor for instance.
func readFacts() *kernelFacts {
	ports, err := HostPorts()
	known, err2 := sockopt.HasPortRange()
	if err != nil || err2 != nil {
		if f := facts.Load(); f != nil {
			return f
		}
		return new(kernelFacts)
	}
	f := &kernelFacts{read: time.Now()}
	if known {
		f.ranged = ports
	}
	facts.Store(f)
	return f
}
