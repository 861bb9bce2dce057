package dialer

import (
	"sync"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// HostPorts returns the ports that the operating system itself chooses among for a plain dial, read anew at each call.
//
// On Linux that is net.ipv4.ip_local_port_range less net.ipv4.ip_local_reserved_ports, of the calling thread's network
// namespace; on macOS and FreeBSD net.inet.ip.portrange.first to last; elsewhere 49152-65535 (RFC 6335).
func HostPorts() (alloc.Set, error) { return hostPorts() }

func dynamicPorts() alloc.Set { return alloc.RangeSet(49152, 65535) }

// hostTCP is the pool of every Dialer of the process whose TCP is nil.
var hostTCP = sync.OnceValue(func() *tuple.Pool {
	ports, err := HostPorts()
	if err != nil || ports.Len() == 0 {
		ports = dynamicPorts()
	}
	return &tuple.Pool{Ports: ports}
})
