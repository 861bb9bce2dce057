package dialer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/sockopt"
)

// ListenPacket opens a UDP socket that is not connected, as [net.ListenConfig.ListenPacket] does. A QUIC transport
// serves all its peers from one such socket. For the networks udp, udp4 and udp6 it is a [*UDPConn]. Every other
// network is passed to package net. The Control of NetDialer is called with the local address. The pool's Sources are
// not used: name one of them in address, or the socket is bound to all addresses. FreeBind applies.
//
// On Linux no dial leaves from the port and address of the socket while it is open, so no connected socket takes the
// datagrams of its peers. The kernel guarantees that for all pools and processes. A dial that meets the port counts it
// as taken and uses another one. For the same reason, ListenPacket cannot use a port that a connected socket has.
//
// If the port is 0, ListenPacket chooses one that the pool does not hand out, from the kernel's ephemeral ports and
// 49152-65535. If none of these is free, the kernel chooses the port. Leave some ports out of the pool's Ports for
// this.
func (d *Dialer) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	if ctx == nil { // as package net allows
		ctx = context.Background()
	}
	if !isUDP(network) || !sockopt.Supported {
		return d.listenPacket(ctx, network, address)
	}
	if address == "" { // package net takes it for any address
		address = ":0"
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil || service != "0" && service != "" {
		return d.listenPacket(ctx, network, address)
	}
	ephemeral, _ := HostPorts() // if they cannot be read, the dynamic ports remain
	reserved, _ := reservedPorts()
	free := alloc.New(ephemeral.Union(dynamicPorts()).Difference(reserved).Difference(d.udpPorts()))
	for ctx.Err() == nil {
		port, ok := free.Acquire()
		if !ok {
			break
		}
		conn, err := d.listenPacket(ctx, network, net.JoinHostPort(host, fmt.Sprint(port)))
		if !isSyscall(err, "bind") || !errors.Is(err, syscall.EADDRINUSE) { // a Control may return EADDRINUSE too
			return conn, err
		}
	}
	return d.listenPacket(ctx, network, address)
}

// udpPorts returns the ports that dials may leave from.
func (d *Dialer) udpPorts() alloc.Set {
	pool := d.pool(true, netip.Addr{})
	switch l := ledgerOf(pool); {
	case !isImplicit(pool):
		return pool.Ports
	case l.host:
		ports, _ := HostPorts() // if they cannot be read, the kernel chooses
		return ports
	}
	return alloc.RangeSet(1024, 65535)
}

func (d *Dialer) listenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	user := userControl(d.netDialer())
	host, _, _ := net.SplitHostPort(address)
	ip, _ := netip.ParseAddr(host)
	group := ip.IsMulticast()
	lc := net.ListenConfig{Control: func(network, address string, c syscall.RawConn) error {
		if user != nil {
			if err := user(ctx, network, address, c); err != nil {
				return err
			}
		}
		if !isUDP(network) {
			return nil
		}
		var err error
		control := c.Control(func(fd uintptr) {
			if sockopt.Supported && !group { // package net lets others share the port of a group
				err = sockopt.KeepPort(int(fd))
			}
			if err == nil && d.FreeBind {
				err = sockopt.FreeBind(int(fd))
			}
		})
		return cmp.Or(control, err)
	}}
	conn, err := lc.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, d.explainListen(err)
	}
	if u, ok := conn.(*net.UDPConn); ok {
		return newUDPConn(u, lease{}), nil
	}
	return conn, nil
}

// explainListen adds to an error what the errno alone does not tell: the pool hands out the port, or the address is not
// on this host.
func (d *Dialer) explainListen(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok {
		return err
	}
	addr, ok := op.Addr.(*net.UDPAddr)
	if !ok {
		return err
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && d.udpPorts().Contains(uint16(addr.Port)):
		op.Err = fmt.Errorf("the Dialer's UDP pool hands out this port: remove it from the pool's Ports: %w", op.Err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		op.Err = newSourceError(addr.AddrPort().Addr().Unmap(), d.FreeBind, op.Err)
	}
	return err
}
