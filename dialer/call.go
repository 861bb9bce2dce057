package dialer

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/ephemera-go/ephemera/tuple"
)

// call is one dial for a TCP or UDP network.
type call struct {
	d       *Dialer
	nd      *net.Dialer
	network string
	udp     bool
	pool    *tuple.Pool
	local   netip.AddrPort // NetDialer.LocalAddr; where its address is not valid or its port is 0, the pool chooses
	source  netip.Addr     // the one of the pool's Sources that the caller asks for; not valid: any
	tracker *Tracker       // if the connections are to be bare
	mayWait bool           // for a free tuple, because all other addresses were tried
}

func newCall(d *Dialer, nd *net.Dialer, network string) call {
	udp := isUDP(network)
	return call{d: d, nd: nd, network: network, udp: udp, pool: d.pool(udp, netip.Addr{})}
}

// leaveFrom makes NetDialer.LocalAddr the local end of the call.
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
		if c.only4() && ip.Is6() {
			return &net.AddrError{Err: "non-IPv4 address", Addr: ip.String()}
		}
		ip = netip.Addr{}
	}
	if ip.IsValid() && local.Port == 0 && len(c.pool.Sources) > 0 {
		return fmt.Errorf("NetDialer.LocalAddr and the pool's Sources both choose the address: set only one (%v)", ip)
	}
	if local.Port < 0 || local.Port > 65535 {
		return &net.AddrError{Err: "invalid port", Addr: local.String()}
	}
	c.setLocal(netip.AddrPortFrom(ip, uint16(local.Port)))
	return nil
}

// setLocal makes local the local end of the call. Its address must not be the unspecified one.
func (c *call) setLocal(local netip.AddrPort) {
	c.local = local
	c.pool = c.d.pool(c.udp, local.Addr())
}

// pool returns the pool of a transport for a local address. If that is not valid, the pool or the kernel chooses it.
func (d *Dialer) pool(udp bool, local netip.Addr) *tuple.Pool {
	p := d.TCP
	if udp {
		p = d.UDP
	}
	if p == nil {
		return hostPool(udp, local)
	}
	return p
}

// transport returns "tcp" or "udp".
func (c *call) transport() string { return c.network[:3] }

func isTCP(network string) bool { return network == "tcp" || network == "tcp4" || network == "tcp6" }

func isUDP(network string) bool { return network == "udp" || network == "udp4" || network == "udp6" }

// only4 and only6 report whether the network allows only one address family.
func (c *call) only4() bool { return c.network[3:] == "4" }
func (c *call) only6() bool { return c.network[3:] == "6" }

// ended returns the error that net.Dialer has for a context that has ended.
func ended(ctx context.Context) error {
	conn, err := plainDialer.DialContext(ctx, "tcp", "127.0.0.1:9") // it looks at ctx before it makes a socket
	if err == nil {
		conn.Close()
		return ctx.Err()
	}
	if op, ok := err.(*net.OpError); ok {
		return op.Err
	}
	return err
}

// opError makes err the error of a dial to remote. Its Source is what the caller asked for, as in the errors of
// net.Dialer, or the pool's source. It never has a port that was chosen at random, because then no two errors would
// have the same text.
func (c *call) opError(remote netip.AddrPort, err error) error {
	e := &net.OpError{Op: "dial", Net: c.network, Source: c.nd.LocalAddr, Err: err}
	switch {
	case e.Source != nil:
	case c.local.IsValid() || c.local.Port() != 0:
		e.Source = c.netAddr(c.local)
	case c.source.IsValid():
		e.Source = c.netAddr(netip.AddrPortFrom(c.source, 0))
	}
	if remote.IsValid() {
		e.Addr = c.netAddr(remote)
	}
	return e
}

func (c *call) netAddr(a netip.AddrPort) net.Addr {
	if c.udp {
		return net.UDPAddrFromAddrPort(a)
	}
	return net.TCPAddrFromAddrPort(a)
}
