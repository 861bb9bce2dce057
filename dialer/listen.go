package dialer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/sockopt"
)

// ListenPacket opens a socket that is connected to nobody, as [net.ListenConfig.ListenPacket] does: a QUIC transport, which
// serves all its peers by one port. For the networks udp, udp4 and udp6 it is a [*UDPConn]; every other network is passed on.
// The Control of NetDialer is called, with the local address.
//
// While the socket lives, its port is its own: on Linux no dial leaves from it, from the same address, so that no connected
// socket takes its peers' datagrams. The kernel sees to that, whichever pool or process the other socket is of: a dial that
// comes upon the port counts it among those that cool down, and takes another one. For the same reason a port that a
// connected socket has cannot be listened on.
//
// If the port is 0, one is chosen that the pool does not hand out, so far as the kernel's range of ephemeral ports and
// 49152-65535 have such a port that is free, and else one that no socket has. Leave the pool's Ports some room for it.
func (d *Dialer) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	if !isUDP(network) || !sockopt.Supported {
		return d.listenPacket(ctx, network, address)
	}
	pool, err := d.pool(true)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	handedOut := pool.Ports
	if handedOut.IsZero() {
		handedOut = alloc.RangeSet(1024, 65535)
	}
	if address == "" { // any, to net
		address = ":0"
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil || service != "0" && service != "" {
		conn, err := d.listenPacket(ctx, network, address)
		return conn, explainListen(err, handedOut)
	}
	ephemeral, _ := HostPorts() // where they are not to be had, the dynamic ones have to do
	reserved, _ := reservedPorts()
	free := alloc.New(ephemeral.Union(dynamicPorts()).Difference(reserved).Difference(handedOut))
	for ctx.Err() == nil {
		port, ok := free.Acquire()
		if !ok {
			break
		}
		conn, err := d.listenPacket(ctx, network, net.JoinHostPort(host, fmt.Sprint(port)))
		if !errors.Is(err, syscall.EADDRINUSE) {
			return conn, err
		}
	}
	return d.listenPacket(ctx, network, address)
}

func (d *Dialer) listenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	user := userControl(d.netDialer())
	lc := net.ListenConfig{Control: func(network, address string, c syscall.RawConn) error {
		if user != nil {
			if err := user(ctx, network, address, c); err != nil {
				return err
			}
		}
		if !isUDP(network) || !sockopt.Supported {
			return nil
		}
		var err error
		return cmp.Or(c.Control(func(fd uintptr) { err = sockopt.KeepPort(int(fd)) }), err)
	}}
	conn, err := lc.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if u, ok := conn.(*net.UDPConn); ok {
		return newUDPConn(u, lease{}), nil
	}
	return conn, nil
}

// explainListen says more of an error for a port that was asked for by number, where dials leave from it too.
func explainListen(err error, handedOut alloc.Set) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	if addr, ok := op.Addr.(*net.UDPAddr); ok && handedOut.Contains(uint16(addr.Port)) {
		op.Err = fmt.Errorf("dials leave from this port too, and may have it: take it out of the Ports of the Dialer's UDP pool: %w", op.Err)
	}
	return err
}
