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

// ListenPacket opens a socket that is connected to nobody, as [net.ListenConfig.ListenPacket] does: a QUIC transport,
// which serves all its peers by one port. For the networks udp, udp4 and udp6 it is a [*UDPConn]; every other network
// is passed on. The Control of NetDialer is called, with the local address. The pool's Sources do not choose that:
// name one of them in address, or the socket is bound to all; FreeBind holds.
//
// While the socket lives, its port is its own: on Linux no dial leaves from it, from the same address, so that no
// connected socket takes its peers' datagrams. The kernel sees to that, whichever pool or process the other socket is
// of: a dial that comes upon the port counts it among those that cool down, and takes another one. For the same
// reason a port that a connected socket has cannot be listened on.
//
// If the port is 0, one is chosen that the pool does not hand out, so far as the kernel's range of ephemeral ports and
// 49152-65535 have such a port that is free, and else one that no socket has. Leave the pool's Ports some room for it.
func (d *Dialer) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	if ctx == nil { // as package net allows
		ctx = context.Background()
	}
	if !isUDP(network) || !sockopt.Supported {
		return d.listenPacket(ctx, network, address)
	}
	if address == "" { // any, to net
		address = ":0"
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil || service != "0" && service != "" {
		return d.listenPacket(ctx, network, address)
	}
	ephemeral, _ := HostPorts() // where they are not to be had, the dynamic ones have to do
	reserved, _ := reservedPorts()
	free := alloc.New(ephemeral.Union(dynamicPorts()).Difference(reserved).Difference(d.udpPorts()))
	for ctx.Err() == nil {
		port, ok := free.Acquire()
		if !ok {
			break
		}
		conn, err := d.listenPacket(ctx, network, net.JoinHostPort(host, fmt.Sprint(port)))
		if !isSyscall(err, "bind") || !errors.Is(err, syscall.EADDRINUSE) { // which a Control may say too
			return conn, err
		}
	}
	return d.listenPacket(ctx, network, address)
}

// udpPorts returns the ports that dials leave from.
func (d *Dialer) udpPorts() alloc.Set {
	pool := d.pool(true, netip.Addr{})
	switch l := ledgerOf(pool); {
	case !isImplicit(pool):
		return pool.Ports
	case l.host:
		ports, _ := HostPorts() // where they cannot be read, the kernel chooses
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
			if sockopt.Supported && !group { // whose ports net lets others share
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

// explainListen says more of an error where the errno alone would mislead: dials leave from the port too, or the
// address is not on the host.
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
		op.Err = fmt.Errorf("dials leave from this port too, and may have it: take it out of the Ports of the Dialer's UDP pool: %w", op.Err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		op.Err = newSourceError(addr.AddrPort().Addr().Unmap(), d.FreeBind, op.Err)
	}
	return err
}
