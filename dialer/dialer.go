package dialer

import (
	"context"
	"net"
	"time"

	"github.com/ephemera-go/ephemera/tuple"
)

// Dialer is a drop-in for [net.Dialer]. Each of its connections has its own 4-tuple.
//
// The zero value is ready to use: it dials as the zero net.Dialer does, from the local ports of the host. A Dialer may
// be copied. It is safe for concurrent use. Its fields must not be changed while it is in use.
type Dialer struct {
	// NetDialer makes the connections. Its Control, Resolver, Timeout, KeepAlive and other fields apply. nil means the
	// zero net.Dialer. It is never modified.
	//
	// A LocalAddr with a port asks for that port. If the pool has the port, the dial takes it into use there. A
	// LocalAddr without a port names the source address. It is an error if the pool has Sources too.
	NetDialer *net.Dialer

	// TCP and UDP are the pools that choose the local ports, and the local addresses if they have Sources. Dialers that
	// share source addresses should share a pool. nil means the HostPool or, if LocalAddr names an address, a pool of
	// the same kind for that address. Use one pool for each network namespace, and for each device that a Control binds
	// sockets to, because a pool does not tell them apart.
	//
	// A pool whose Ports are zero hands out the ports 1024-65535, both included. It leaves out the ports that the host
	// reserves (net.ipv4.ip_local_reserved_ports), and those that had a listener when that setting last changed. Ports
	// that the pool names are used as they are.
	//
	// The pool's CoolDown says how long a tuple cools down after its connection. Where it is zero, the time follows the
	// kernel: see TCPConn.Close.
	//
	// Each of the Sources must be on the host, unless FreeBind is set. Dials from any other source fail. UDP cannot
	// send from a broadcast address, which an IPv4 prefix contains: the kernel sends from another address instead.
	TCP, UDP *tuple.Pool

	// Wait is how long a dial may wait for a free tuple towards an address, within the limits of NetDialer and the
	// context. Dials that wait are served in order. 0 means that a dial does not wait. A negative Wait means no limit
	// of its own. The MaxWaiters of the pool limits how many may wait. If a name has several addresses, all are tried
	// before the dial waits for one.
	Wait time.Duration

	// Owner names the owner of the connections. Pools with tuple.StickyOwner or MaxPerOwner tell owners apart. To dial
	// for many owners, copy the Dialer and set Owner: a copy costs nothing.
	Owner string

	// Tracker makes Dial and DialContext return bare [*net.TCPConn] and [*net.UDPConn] instead of TCPConn and UDPConn,
	// for code that looks for these types. The Tracker gives their tuples back, a moment later than Close would.
	// DialTCP and DialUDP ignore it.
	Tracker *Tracker

	// FreeBind allows source addresses that are routed to this host but not assigned to an interface, such as a whole
	// IPv6 prefix (`ip route add local 2001:db8::/64 dev lo`). IPv6 needs it for that; IPv4 does not.
	//
	// On Linux, sockets get IP_FREEBIND. They get IP_TRANSPARENT too if the process has CAP_NET_ADMIN or CAP_NET_RAW,
	// and can then use any source address. If the answers to an address do not come back to this host, a dial from it
	// runs into its timeout. On other systems, a dial from a source address fails with an error that Is
	// errors.ErrUnsupported.
	FreeBind bool

	// SharedUDP says that the user has divided the UDP ports among all processes that send from the same source, for
	// example with alloc.Set.Slice. A dial then does not check whether another socket of the host has its tuple.
	//
	// By default it does on Linux, because the kernel accepts two UDP sockets with the same tuple and delivers all
	// answers to one of them. The check is free on a port that no other socket has. On a shared port, a dial asks the
	// kernel (sock_diag) before and after it connects. It misses two kinds of sockets: one that another program later
	// connects to the same tuple, on a port that it shares by SO_REUSEADDR; and one that is bound to a device, if this
	// one is not.
	SharedUDP bool
}

var plainDialer net.Dialer // never modified

// Dial is DialContext with the background context.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects to address as [net.Dialer.DialContext] does. For the networks tcp, tcp4 and tcp6 the connection
// is a [*TCPConn]. For udp, udp4 and udp6 it is a [*UDPConn]. With a Tracker they are [*net.TCPConn] and
// [*net.UDPConn]. Every other network, and port 0, is passed to NetDialer.
//
// Each address of a name is tried with its own tuple and its share of the timeout. For TCP, the two address families
// race as in net.Dialer (RFC 6555). Addresses of a family in which the pool has no source are left out.
//
// Its errors are [*net.OpError]. If several addresses fail, the error is that of the first one. Its Source is what the
// caller asked for, as for net.Dialer, or the pool's source with port 0. It never has a port that the pool chose. If no
// tuple was free in time, errors.Is finds [tuple.ErrExhausted] and syscall.EADDRNOTAVAIL.
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
	if remote, ok := c.literal(address); ok { // needs neither the lists nor the race
		c.mayWait = true
		r.conn, r.err = c.within(ctx, remote, 1)
	} else {
		r = c.dialName(ctx, address)
	}
	return r.finish()
}

// dialContext returns ctx with the limits of nd: its Timeout, Deadline and Cancel.
func dialContext(ctx context.Context, nd *net.Dialer) (context.Context, context.CancelFunc) {
	deadline := nd.Deadline
	if nd.Timeout != 0 { // a negative one has already passed, as for net.Dialer
		if d := time.Now().Add(nd.Timeout); deadline.IsZero() || d.Before(deadline) {
			deadline = d
		}
	}
	cancel := func() {}
	if !deadline.IsZero() {
		ctx, cancel = context.WithDeadline(ctx, deadline)
	}
	//lint:ignore SA1019 it is deprecated, but a drop-in must honour it
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
