package dialer

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// HostPorts returns the ports that the operating system itself chooses among for a plain dial, read anew at each call.
//
// On Linux that is net.ipv4.ip_local_port_range less net.ipv4.ip_local_reserved_ports, of the calling thread's network
// namespace; on macOS and FreeBSD net.inet.ip.portrange.first to last; elsewhere 49152-65535 (RFC 6335).
func HostPorts() (alloc.Set, error) { return hostPorts() }

func dynamicPorts() alloc.Set { return alloc.RangeSet(49152, 65535) }

// HostPool returns the pool of every Dialer of the process that has none of its own for a network, "tcp" or "udp",
// and no LocalAddr. It has no Sources. It hands out the ports of HostPorts, without those on which somebody listened
// when the host's settings changed last, and follows these settings while it is used: so its field Ports is zero. A
// LocalAddr without a pool has a pool of the same kind for itself.
//
// A program that uses the zero Dialer sees by it what is in use, retired and free: HostPool("tcp") and
// [tuple.Pool.Usage]. The error says why the ports of the host cannot be read. Dials work all the same then: the
// kernel chooses their ports.
func HostPool(network string) (*tuple.Pool, error) {
	if network != "tcp" && network != "udp" {
		return nil, fmt.Errorf("HostPool: %w: there is one for tcp and one for udp", net.UnknownNetworkError(network))
	}
	p := hostPool(network == "udp", netip.Addr{})
	s := currentSettings()
	ledgerOf(p).follow(p, network, s)
	return p, s.portsErr
}

// hostPools are the pools of the Dialers that have none of their own: one for those who leave the local address to
// the kernel, and one for each address that a caller names, because the kernel gives each address all ports. A port
// is one port for TCP and another one for UDP, so the index says whether it is for UDP.
var hostPools [2]struct {
	anywhere atomic.Pointer[tuple.Pool]
	mu       sync.Mutex
	from     map[netip.Addr]*tuple.Pool
}

// hostPool returns the one for a local address; if that is not valid, the kernel chooses it.
func hostPool(udp bool, local netip.Addr) *tuple.Pool {
	of := &hostPools[0]
	if udp {
		of = &hostPools[1]
	}
	if !local.IsValid() {
		if p := of.anywhere.Load(); p != nil {
			return p
		}
		of.anywhere.CompareAndSwap(nil, newHostPool())
		return of.anywhere.Load()
	}
	local = local.WithZone("")
	of.mu.Lock()
	defer of.mu.Unlock()
	p := of.from[local]
	if p == nil {
		if of.from == nil {
			of.from = make(map[netip.Addr]*tuple.Pool)
		}
		p = newHostPool(netip.PrefixFrom(local, local.BitLen()))
		of.from[local] = p
	}
	return p
}

func newHostPool(sources ...netip.Prefix) *tuple.Pool {
	p := &tuple.Pool{Sources: sources}
	pools.Slot(p).Store(&ledger{host: true})
	return p
}

// orHost returns p or, if that is nil, the pool of the process for the network.
func orHost(network string, p *tuple.Pool) (*tuple.Pool, error) {
	if p == nil {
		return HostPool(network)
	}
	return p, nil
}
