package dialer

import (
	"errors"
	"sync"
	"syscall"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// HostPorts returns the ports that the operating system itself chooses among for a plain dial, read anew at each call.
//
// On Linux that is net.ipv4.ip_local_port_range less net.ipv4.ip_local_reserved_ports, of the calling thread's network
// namespace; on macOS and FreeBSD net.inet.ip.portrange.first to last; elsewhere 49152-65535 (RFC 6335).
func HostPorts() (alloc.Set, error) { return hostPorts() }

func dynamicPorts() alloc.Set { return alloc.RangeSet(49152, 65535) }

// hostPool is the pool of every Dialer of the process that has none of its own.
type hostPool struct {
	network string
	mu      sync.Mutex
	pool    *tuple.Pool // set once
}

// A port is one port for TCP and another one for UDP.
var hostTCP, hostUDP = hostPool{network: "tcp"}, hostPool{network: "udp"}

// get returns the pool. Where the ports of the host are not to be had, they are the dynamic ones; but not because the
// process has no file left at the moment, for the pool stays. A port on which somebody listens by then is left out for good,
// though that may soon end: one of 28,232 is a small price for not trying it in vain every 10 seconds. Not so where TCP leaves
// the choice to the kernel, which leaves it out itself.
func (h *hostPool) get() (*tuple.Pool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pool != nil {
		return h.pool, nil
	}
	ports, err := HostPorts()
	can, err2 := kernelHas()
	listening, err3 := ListenPorts(h.network)
	if err := errors.Join(err, err2, err3); errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return nil, err
	}
	if err != nil || ports.Len() == 0 {
		ports = dynamicPorts()
	}
	if err3 == nil && (can.PortRange || h.network == "udp") {
		if rest := ports.Difference(listening); rest.Len() > 0 {
			ports = rest
		}
	}
	h.pool = &tuple.Pool{Ports: ports}
	return h.pool, nil
}

// orHost returns p or, if that is nil, the pool of the process for the network.
func orHost(network string, p *tuple.Pool) (*tuple.Pool, error) {
	return (&Dialer{TCP: p, UDP: p}).pool(isUDP(network))
}
