package dialer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/ephemera-go/ephemera/tuple"
)

// call is one dial for a TCP or UDP network.
type call struct {
	*Dialer
	nd      *net.Dialer
	network string
	udp     bool
	pool    *tuple.Pool
	local   netip.AddrPort // NetDialer.LocalAddr; its address is not valid, or its port is 0, where the pool chooses
	source  netip.Addr     // the one of the pool's Sources that the caller asks for; not valid: any
}

func newCall(d *Dialer, nd *net.Dialer, network string) (call, error) {
	c := call{Dialer: d, nd: nd, network: network, udp: isUDP(network)}
	var err error
	c.pool, err = d.pool(c.udp)
	return c, err
}

// leaveFrom has the call leave from a NetDialer's LocalAddr.
func (c *call) leaveFrom(addr net.Addr) error {
	if addr == nil {
		return nil
	}
	local, ok := addr.(*net.TCPAddr)
	if c.udp {
		var u *net.UDPAddr
		u, ok = addr.(*net.UDPAddr)
		local = (*net.TCPAddr)(u)
	}
	switch {
	case !ok:
		return &net.AddrError{Err: "mismatched local address type", Addr: addr.String()}
	case local == nil:
		return nil
	}
	ip := local.AddrPort().Addr().Unmap()
	if !ip.IsValid() && len(local.IP) != 0 {
		return &net.AddrError{Err: "invalid IP address", Addr: local.String()}
	}
	if ip.IsUnspecified() {
		ip = netip.Addr{}
	}
	if ip.IsValid() && local.Port == 0 && len(c.pool.Sources) > 0 {
		return fmt.Errorf("NetDialer.LocalAddr is %v, and the pool's Sources choose an address too: set one of the two", ip)
	}
	if local.Port < 0 || local.Port > 65535 {
		return &net.AddrError{Err: "invalid port", Addr: local.String()}
	}
	c.local = netip.AddrPortFrom(ip, uint16(local.Port))
	return nil
}

// pool returns the pool of a transport.
func (d *Dialer) pool(udp bool) (*tuple.Pool, error) {
	p, host := d.TCP, &hostTCP
	if udp {
		p, host = d.UDP, &hostUDP
	}
	if p == nil {
		return host.get()
	}
	return p, nil
}

func isTCP(network string) bool { return network == "tcp" || network == "tcp4" || network == "tcp6" }

func isUDP(network string) bool { return network == "udp" || network == "udp4" || network == "udp6" }

// only4 and only6 report whether the network is that of one family.
func (c *call) only4() bool { return c.network[3:] == "4" }
func (c *call) only6() bool { return c.network[3:] == "6" }

// literal returns the only address to try, if address is one that there is nothing to resolve of.
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
		if c.only6() {
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
	if c.only4() {
		return resolver.LookupNetIP(ctx, "ip4", host)
	}
	found, err := resolver.LookupIPAddr(ctx, host) // unlike LookupNetIP it keeps zones
	if err != nil {
		return nil, err
	}
	ips := make([]netip.Addr, 0, len(found))
	for _, a := range found {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && !(c.only6() && ip.Unmap().Is4()) {
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
	switch ip.WithZone("") {
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
