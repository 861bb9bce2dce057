package dialer

import (
	"context"
	"net"
	"net/netip"
	"slices"
)

// literal returns the only address to try, if address needs no resolver.
func (c *call) literal(address string) (netip.AddrPort, bool) {
	remote, err := netip.ParseAddrPort(address)
	ip := remote.Addr()
	switch {
	case err != nil, remote.Port() == 0, ip.IsUnspecified(), ip.Is4In6(), ip.Zone() != "", !c.hasSource(remote):
		return netip.AddrPort{}, false
	case c.only4():
		return remote, ip.Is4()
	case c.only6():
		return remote, ip.Is6()
	}
	return remote, true
}

// resolve returns the addresses to try, in the order of the resolver (RFC 6724).
func (c *call) resolve(ctx context.Context, address string) ([]netip.AddrPort, error) {
	if address == "" {
		return nil, errMissing
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	resolver := c.nd.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	port, err := resolver.LookupPort(ctx, c.network, service)
	if err != nil {
		return nil, err
	}
	if port == 0 {
		return nil, errPortZero
	}
	ips, err := c.lookup(lookupContext{ctx}, resolver, host)
	if err != nil {
		return nil, err
	}
	var addrs []netip.AddrPort
	var sourceless netip.AddrPort
	for _, ip := range ips {
		ip = loopbackIfUnspecified(ip.Unmap())
		remote := netip.AddrPortFrom(ip, uint16(port))
		switch {
		case c.only4() && !ip.Is4(), c.only6() && ip.Is4():
		case !c.hasSource(remote):
			sourceless = remote
		default:
			addrs = append(addrs, remote)
		}
	}
	switch {
	case len(addrs) > 0:
		return addrs, nil
	case sourceless.IsValid() && c.local.Addr().IsValid():
		return nil, &net.AddrError{Err: "the local address is of another address family", Addr: sourceless.String()}
	case sourceless.IsValid():
		return []netip.AddrPort{sourceless}, nil // the pool returns the error
	}
	return nil, &net.AddrError{Err: "no suitable address found", Addr: host}
}

func (c *call) lookup(ctx context.Context, resolver *net.Resolver, host string) ([]netip.Addr, error) {
	if host == "" { // the local system
		if c.only6() {
			return []netip.Addr{netip.IPv6Unspecified()}, nil
		}
		return []netip.Addr{netip.IPv4Unspecified()}, nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.WithZone("") == netip.IPv6Unspecified() {
			// As package net: a host may bind :: but not reach itself there (golang/go#18806).
			return []netip.Addr{netip.IPv6Unspecified(), netip.IPv4Unspecified()}, nil
		}
		return []netip.Addr{ip}, nil
	}
	if c.only4() {
		return resolver.LookupNetIP(ctx, "ip4", host)
	}
	if c.only6() { // asks for AAAA records only, as package net does
		ips, err := resolver.LookupNetIP(ctx, "ip6", host)
		if err != nil || !slices.ContainsFunc(ips, netip.Addr.IsLinkLocalUnicast) {
			return ips, err
		}
	}
	found, err := resolver.LookupIPAddr(ctx, host) // unlike LookupNetIP it keeps zones, those of /etc/hosts
	if err != nil {
		return nil, err
	}
	ips := make([]netip.Addr, 0, len(found))
	for _, a := range found {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && !(c.only6() && ip.Unmap().Is4()) {
			ips = append(ips, ip.WithZone(a.Zone))
		}
	}
	return ips, nil
}

// loopbackIfUnspecified replaces the unspecified address by the loopback address, as the kernel does for a destination,
// so that both share one port space.
func loopbackIfUnspecified(ip netip.Addr) netip.Addr {
	switch ip.WithZone("") {
	case netip.IPv4Unspecified():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case netip.IPv6Unspecified():
		return netip.IPv6Loopback()
	}
	return ip
}

// hasSource reports whether there is a local address from which to connect to remote. It asks the pool, because Sources
// may change.
func (c *call) hasSource(remote netip.AddrPort) bool {
	if local := c.local.Addr(); local.IsValid() {
		return local.Is4() == remote.Addr().Is4()
	}
	return len(c.pool.Sources) == 0 || pools.HasSource(c.pool, remote.Addr())
}
