package dialer

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

// ListeningPorts returns the ports on which any process listens now. Leave them out of a pool's Ports: a dial from such
// a port fails, or keeps the server from restarting. The network is "tcp" or "udp". For udp, a bound socket that is not
// connected counts as a listener. With prefixes, only listeners on an address in one of them count, and listeners on
// all addresses. A listener on :: counts for 0.0.0.0 too.
//
//	listening, err := dialer.ListeningPorts("tcp")
//	pool := &tuple.Pool{Ports: alloc.RangeSet(1024, 65535).Difference(listening)}
//
// ListeningPorts needs Linux. On other systems the error Is errors.ErrUnsupported. It looks at the network namespace of
// the calling thread.
func ListeningPorts(network string, at ...netip.Prefix) (alloc.Set, error) {
	var listens [1 << 16]bool
	for s, err := range sockets(network, false) {
		if err != nil {
			return alloc.Set{}, err
		}
		listens[s.Local.Port()] = listens[s.Local.Port()] || covers(&s, at)
	}
	var ports []string
	for port, yes := range listens {
		if yes && port != 0 {
			ports = append(ports, strconv.Itoa(port))
		}
	}
	return alloc.ParseSet(strings.Join(ports, ","))
}

// covers reports whether a listener has an address in one of the prefixes. Without prefixes it is always true.
func covers(s *sockdiag.Socket, at []netip.Prefix) bool {
	a := s.Local.Addr()
	for _, p := range at {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p.Contains(a) || a == netip.IPv6Unspecified() || a == netip.IPv4Unspecified() && p.Addr().Is4() {
			return true
		}
	}
	return len(at) == 0
}
