package dialer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// DialTCP is DialContext for the networks tcp, tcp4 and tcp6 and a known address, like [net.Dialer.DialTCP].
//
// If laddr is not valid, the pool or the kernel chooses address and port. (net.Dialer binds a port to the unspecified
// address then.) A laddr with port 0 names the source address: one of the pool's Sources if it has any, or else one of
// the host's. With a port it names both. If the pool has the port, it is taken into use there. NetDialer.LocalAddr is
// not used.
func (d *Dialer) DialTCP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*TCPConn, error) {
	if !isTCP(network) {
		return nil, d.unknownNetwork(network, false, laddr, raddr)
	}
	conn, err := d.dialAddrPort(ctx, network, laddr, raddr)
	if err != nil {
		return nil, err
	}
	return conn.(*TCPConn), nil
}

// DialUDP is DialTCP for the networks udp, udp4 and udp6.
func (d *Dialer) DialUDP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*UDPConn, error) {
	if !isUDP(network) {
		return nil, d.unknownNetwork(network, true, laddr, raddr)
	}
	conn, err := d.dialAddrPort(ctx, network, laddr, raddr)
	if err != nil {
		return nil, err
	}
	return conn.(*UDPConn), nil
}

func (d *Dialer) unknownNetwork(network string, udp bool, laddr, raddr netip.AddrPort) error {
	c := call{nd: d.netDialer(), network: network, udp: udp, local: laddr}
	return c.opError(raddr, net.UnknownNetworkError(network))
}

func (d *Dialer) dialAddrPort(ctx context.Context, network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
	if ctx == nil {
		panic("nil context")
	}
	nd := d.netDialer()
	if nd.LocalAddr != nil {
		other := *nd
		other.LocalAddr = nil
		nd = &other
	}
	c := newCall(d, nd, network)
	address := raddr.String()
	if !raddr.Addr().IsValid() { // the local system, if there is a port
		if address = fmt.Sprint(":", raddr.Port()); raddr.Port() == 0 {
			return nil, c.opError(raddr, errors.New("missing address"))
		}
	}
	ip := laddr.Addr().Unmap()
	if ip.IsUnspecified() {
		ip = netip.Addr{}
	}
	c.setLocal(netip.AddrPortFrom(ip, laddr.Port()))
	if ip.IsValid() && laddr.Port() == 0 && len(c.pool.Sources) > 0 {
		c.source = ip.WithZone("")
	}
	conn, err := c.dial(ctx, address)
	if op, ok := err.(*net.OpError); ok && op.Addr == nil && raddr.IsValid() {
		op.Addr = c.netAddr(raddr)
	}
	return conn, err
}
