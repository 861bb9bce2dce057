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

var (
	hostPool     *tuple.Pool // of every Dialer of the process whose TCP is nil; set once
	hostPoolInit sync.Mutex
)

// hostTCP returns the pool of the process. Where the ports of the host are not to be had, they are the dynamic ones; but
// not because the process has no file left at the moment, for the pool stays.
func hostTCP() (*tuple.Pool, error) {
	hostPoolInit.Lock()
	defer hostPoolInit.Unlock()
	if hostPool != nil {
		return hostPool, nil
	}
	ports, err := HostPorts()
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return nil, err
	}
	if err != nil || ports.Len() == 0 {
		ports = dynamicPorts()
	}
	hostPool = &tuple.Pool{Ports: ports}
	return hostPool, nil
}
