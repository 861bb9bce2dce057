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

// HostPorts returns the ports from which the operating system chooses for a plain dial. It reads them at each call.
//
// On Linux they are net.ipv4.ip_local_port_range without net.ipv4.ip_local_reserved_ports, in the network namespace of
// the calling thread. On macOS and FreeBSD they are net.inet.ip.portrange.first to last, both included. Elsewhere they
// are 49152-65535 (RFC 6335).
func HostPorts() (alloc.Set, error) { return hostPorts() }

func dynamicPorts() alloc.Set { return alloc.RangeSet(49152, 65535) }

// HostPool returns the pool of all Dialers of the process that have neither a pool of their own nor a LocalAddr. The
// network is "tcp" or "udp". The pool has no Sources. It hands out the ports of HostPorts without those that had a
// listener when the host's settings last changed. It follows these settings while it is in use, so its field Ports is
// zero. A LocalAddr without a pool gets a pool of the same kind for itself.
//
// It shows a program that uses the zero Dialer what is in use, retired and free: see [tuple.Pool.Usage]. The error says
// why the ports of the host cannot be read. Dials still work then, and the kernel chooses their ports.
func HostPool(network string) (*tuple.Pool, error) {
	if network != "tcp" && network != "udp" {
		return nil, fmt.Errorf("HostPool: use tcp or udp: %w", net.UnknownNetworkError(network))
	}
	p := hostPool(network == "udp", netip.Addr{})
	s := currentSettings()
	ledgerOf(p).follow(p, network, s)
	return p, s.portsErr
}

// hostPools are the pools of the Dialers that have none of their own, for TCP (0) and UDP (1). One is for Dialers that
// leave the local address to the kernel. There is another one for each address that a caller names, because the kernel
// gives each address all ports.
var hostPools [2]struct {
	anywhere atomic.Pointer[tuple.Pool]
	mu       sync.Mutex
	from     map[netip.Addr]*tuple.Pool
}

// hostPool returns the pool for a local address. If the address is not valid, the kernel chooses it.
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

// orHost returns p or, if p is nil, the HostPool.
func orHost(network string, p *tuple.Pool) (*tuple.Pool, error) {
	if p == nil {
		return HostPool(network)
	}
	return p, nil
}
