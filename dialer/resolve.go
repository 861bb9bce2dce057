package dialer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/ephemera-go/ephemera/tuple"
)

// call is one DialContext for a TCP network.
type call struct {
	*Dialer
	nd      *net.Dialer
	network string
	pool    *tuple.Pool
	local   netip.AddrPort // NetDialer.LocalAddr; its address is not valid, or its port is 0, where the pool chooses
}

func newCall(d *Dialer, nd *net.Dialer, network string) (call, error) {
	c := call{Dialer: d, nd: nd, network: network, pool: d.TCP}
	if c.pool == nil {
		var err error
		if c.pool, err = hostTCP(); err != nil {
			return call{}, err
		}
	}
	switch local := nd.LocalAddr.(type) {
	case nil:
	case *net.TCPAddr:
		if local == nil {
			break
		}
		ip := local.AddrPort().Addr().Unmap()
		if !ip.IsValid() && len(local.IP) != 0 {
			return call{}, &net.AddrError{Err: "invalid IP address", Addr: local.String()}
		}
		if ip.IsUnspecified() {
			ip = netip.Addr{}
		}
		if ip.IsValid() && local.Port == 0 && len(c.pool.Sources) > 0 {
			return call{}, fmt.Errorf("NetDialer.LocalAddr is %v, and the pool's Sources choose an address too: set one of the two", ip)
		}
		if local.Port < 0 || local.Port > 65535 {
			return call{}, &net.AddrError{Err: "invalid port", Addr: local.String()}
		}
		c.local = netip.AddrPortFrom(ip, uint16(local.Port))
	default:
		return call{}, &net.AddrError{Err: "mismatched local address type", Addr: local.String()}
	}
	return c, nil
}

// literal returns the only address to try, if address is one that there is nothing to resolve of.
func (c *call) literal(address string) (netip.AddrPort, bool) {
	remote, err := netip.ParseAddrPort(address)
	ip := remote.Addr()
	switch {
	case err != nil, remote.Port() == 0, ip.IsUnspecified(), ip.Is4In6(), ip.Zone() != "", !c.hasSource(remote):
		return netip.AddrPort{}, false
	case c.network == "tcp4":
		return remote, ip.Is4()
	case c.network == "tcp6":
		return remote, ip.Is6()
	}
	return remote, true
}

// resolve returns the addresses to try, in the resolver's order (RFC 6724).
func (c *call) resolve(ctx context.Context, address string) ([]netip.AddrPort, error) {
	if address == "" {
		return nil, errors.New("missing address")
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
		return nil, &net.AddrError{Err: "port 0 is that of no service: name the port to connect to", Addr: address}
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
		case c.network == "tcp4" && !ip.Is4(), c.network == "tcp6" && ip.Is4():
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
		return nil, &net.AddrError{Err: "NetDialer.LocalAddr is of another address family", Addr: sourceless.String()}
	case sourceless.IsValid():
		t, err := c.pool.TryAcquire(sourceless)
		if err != nil {
			return nil, err // the pool says what is wrong with its Sources
		}
		c.pool.Release(t)
	}
	return nil, &net.AddrError{Err: "no suitable address found", Addr: host}
}

func (c *call) lookup(ctx context.Context, resolver *net.Resolver, host string) ([]netip.Addr, error) {
	if host == "" { // the local system
		if c.network == "tcp6" {
			return []netip.Addr{netip.IPv6Unspecified()}, nil
		}
		return []netip.Addr{netip.IPv4Unspecified()}, nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.WithZone("") == netip.IPv6Unspecified() { // as net: a host may bind :: and yet not reach itself there (golang/go#18806)
			return []netip.Addr{netip.IPv6Unspecified(), netip.IPv4Unspecified()}, nil
		}
		return []netip.Addr{ip}, nil
	}
	if c.network == "tcp4" {
		return resolver.LookupNetIP(ctx, "ip4", host)
	}
	found, err := resolver.LookupIPAddr(ctx, host) // unlike LookupNetIP it keeps zones
	if err != nil {
		return nil, err
	}
	ips := make([]netip.Addr, 0, len(found))
	for _, a := range found {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && !(c.network == "tcp6" && ip.Unmap().Is4()) {
			ips = append(ips, ip.WithZone(a.Zone))
		}
	}
	if len(ips) == 0 { // as net, which asks for IPv6 alone
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return ips, nil
}

// loopbackIfUnspecified makes explicit what the kernel makes of the unspecified address as a destination, so that the two
// share one port space.
func loopbackIfUnspecified(ip netip.Addr) netip.Addr {
	switch ip {
	case netip.IPv4Unspecified():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case netip.IPv6Unspecified():
		return netip.IPv6Loopback()
	}
	return ip
}

// hasSource reports whether there is a local address to connect to remote from. The pool knows: its sources may change.
func (c *call) hasSource(remote netip.AddrPort) bool {
	if local := c.local.Addr(); local.IsValid() {
		return local.Is4() == remote.Addr().Is4()
	}
	if len(c.pool.Sources) == 0 {
		return true
	}
	u := c.pool.Usage(remote)
	return u.Free > 0 || u.InUse > 0 || u.Retired > 0 // not their sum: Free may be the greatest int
}
