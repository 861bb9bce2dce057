package dialer

import (
	"context"
	"net"
	"time"

	"github.com/ephemera-go/ephemera/tuple"
)

// Dialer is a drop-in for [net.Dialer] whose connections each have a 4-tuple of their own.
//
// The zero value is ready to use: it dials as the zero net.Dialer does, from the local ports of the host. A Dialer
// may be copied. It is safe for concurrent use; its fields must not be changed while it is used.
type Dialer struct {
	// NetDialer makes the connections: its Control, Resolver, Timeout, KeepAlive and so on hold. nil means the zero
	// net.Dialer. It is never modified.
	//
	// A LocalAddr with a port asks for that port, which is taken into use in the pool if the pool has it. A LocalAddr
	// without a port names the source address; together with a pool that has Sources it is an error.
	NetDialer *net.Dialer

	// TCP and UDP are the pools that choose the local ports, and the local addresses if they have Sources. Dialers
	// that share source addresses should share a pool. nil means the HostPool or, with an address in LocalAddr, one
	// of its kind for that address. A pool has one account: for each network namespace, and for each device that a
	// Control binds sockets to, use a pool of its own.
	//
	// A pool whose Ports are zero hands out the ports 1024-65535, except those that the host reserves
	// (net.ipv4.ip_local_reserved_ports) and those on which somebody listened when that setting changed last. Ports
	// that the pool names are used as they are.
	//
	// How long a tuple cools down after its connection is the pool's CoolDown. What that leaves at zero follows the
	// kernel: see TCPConn.Close.
	//
	// Each of the Sources must be on the host, unless FreeBind is set: the dials whose turn it is to leave from
	// another address fail. A broadcast address, which an IPv4 prefix contains, is no source for UDP: the kernel
	// sends from another address instead.
	TCP, UDP *tuple.Pool

	// Wait is how long a dial may wait for a free tuple towards an address, first come first served, within what
	// NetDialer and the context allow. 0 means not at all; a negative Wait means as long as those allow. The
	// MaxWaiters of the pool bounds how many may wait. Of several addresses, all are tried before the dial waits for
	// one.
	Wait time.Duration

	// Owner names whom the connections are for. Pools with tuple.StickyOwner or MaxPerOwner tell owners apart. A copy
	// of a Dialer with another Owner costs nothing.
	Owner string

	// Tracker makes Dial and DialContext return bare [*net.TCPConn] and [*net.UDPConn] instead of TCPConn and
	// UDPConn, for code that looks for these very types. The Tracker gives their tuples back, a moment later than
	// Close would. DialTCP and DialUDP ignore it.
	Tracker *Tracker

	// FreeBind allows source addresses that are routed to this host but not assigned to an interface, such as a whole
	// IPv6 prefix (`ip route add local 2001:db8::/64 dev lo`). IPv6 needs it for that; IPv4 does not. On Linux
	// sockets get IP_FREEBIND, and IP_TRANSPARENT too if the process has CAP_NET_ADMIN or CAP_NET_RAW, which lets
	// them leave from any address. From an address whose answers do not come back to this host, a dial runs into its
	// timeout instead of failing. Elsewhere it is an error to set it.
	FreeBind bool

	// SharedUDP says that the user has divided the UDP ports among all processes that send from the same source, for
	// instance by alloc.Set.Slice. Then a dial does not ask whether another socket of the host has its tuple.
	//
	// By default it does, on Linux, because the kernel accepts two UDP sockets with one tuple and gives the answers
	// for both to one of them. A socket on a port that no other socket has costs nothing more. On a port that others
	// share, a dial asks the kernel (sock_diag) before and after it connects. Two kinds of sockets are not noticed:
	// one that another program connects to the same tuple later, on a port that it shares by SO_REUSEADDR, and one
	// that is bound to a device if this one is not.
	SharedUDP bool
}

var plainDialer net.Dialer // never modified

// Dial is DialContext with the background context.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects to address as [net.Dialer.DialContext] does. For the networks tcp, tcp4 and tcp6 the
// connection is a [*TCPConn]; for udp, udp4 and udp6 it is a [*UDPConn]. With a Tracker they are [*net.TCPConn] and
// [*net.UDPConn]. Every other network, and port 0, is passed to NetDialer as it is.
//
// Each address that a name resolves to is an attempt with a tuple of its own, for TCP raced as net.Dialer does (RFC
// 6555), and given its share of the timeout. Addresses of a family in which the pool has no source are left out.
//
// Its errors are [*net.OpError], that of the first address if there are several. Their Source is what the caller
// asked for, as for net.Dialer, or the pool's source with port 0, and never a port that was chosen. If no tuple was
// free in time, errors.Is finds [tuple.ErrExhausted] and syscall.EADDRNOTAVAIL.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if ctx == nil {
		panic("nil context")
	}
	nd := d.netDialer()
	if !isTCP(network) && !isUDP(network) {
		return nd.DialContext(ctx, network, address)
	}
	c := newCall(d, nd, network)
	if c.tracker = d.Tracker; c.tracker != nil {
		if err := c.tracker.ready(nd, network); err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Source: nd.LocalAddr, Err: err}
		}
	}
	if err := c.leaveFrom(nd.LocalAddr); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Source: nd.LocalAddr, Err: err}
	}
	return c.dial(ctx, address)
}

func (d *Dialer) netDialer() *net.Dialer {
	if d.NetDialer == nil {
		return &plainDialer
	}
	return d.NetDialer
}

func (c call) dial(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := dialContext(ctx, c.nd)
	defer cancel()
	var r outcome
	if remote, ok := c.literal(address); ok { // without the lists and the race
		c.mayWait = true
		r.conn, r.err = c.within(ctx, remote, 1)
	} else {
		r = c.dialName(ctx, address)
	}
	return r.finish()
}

// dialContext returns ctx with the limits that nd sets: its Timeout, Deadline and Cancel.
func dialContext(ctx context.Context, nd *net.Dialer) (context.Context, context.CancelFunc) {
	deadline := nd.Deadline
	if nd.Timeout != 0 { // a negative one has passed, as for net.Dialer
		if d := time.Now().Add(nd.Timeout); deadline.IsZero() || d.Before(deadline) {
			deadline = d
		}
	}
	cancel := func() {}
	if !deadline.IsZero() {
		ctx, cancel = context.WithDeadline(ctx, deadline)
	}
	//lint:ignore SA1019 it is deprecated, but a drop-in honours it
	canceled := nd.Cancel
	if canceled == nil {
		return ctx, cancel
	}
	ctx, cancel2 := context.WithCancel(ctx)
	go func() {
		select {
		case <-canceled:
			cancel2()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel2(); cancel() }
}
