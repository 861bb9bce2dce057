package dialer

import (
	"context"
	"net"
	"time"

	"github.com/ephemera-go/ephemera/tuple"
)

// Dialer is a drop-in for [net.Dialer] whose connections each have a 4-tuple of their own.
//
// The zero value is ready to use: it is the zero net.Dialer, with the local ports of the host. A Dialer may be copied. It
// is safe for concurrent use; its fields must not be changed while it is used.
type Dialer struct {
	// NetDialer makes the connections: its Control, Resolver, Timeout, KeepAlive and so on hold. nil means the zero
	// net.Dialer. It is never modified.
	//
	// A LocalAddr with a port asks for that port, which is taken into use in the pool if the pool has it. A LocalAddr
	// without a port names the source address, and is refused together with a pool that has Sources.
	NetDialer *net.Dialer

	// TCP and UDP are the pools that choose the local ports, and the local addresses if they have Sources: each of those
	// must be on the host (but see FreeBind), or the dials whose turn it is to leave from it fail. Dialers that share source
	// addresses should share a pool. nil means one pool for every Dialer of the process, without Sources and with the ports
	// that HostPorts returned when it was first used, less those on which somebody listened then.
	//
	// How long a tuple rests after its connection is the pool's CoolDown by how that ended: see TCPConn.Close. By default that is
	// as long as Linux itself needs.
	//
	// The kernel keeps TCP sockets with one tuple apart, whoever dials, but accepts two UDP sockets with one: there the pool
	// keeps them apart. Where two pools, in other processes for instance, have the same source, give each a slice of the ports
	// (alloc.Set.Slice), or set ExclusiveUDP. A broadcast address, which a prefix of IPv4 has, is no source for UDP: the kernel
	// sends from another one without a word.
	TCP, UDP *tuple.Pool

	// Wait is how long a dial may wait for a free tuple towards an address, first come first served, within what NetDialer
	// and the context allow. 0 means not at all, a negative Wait as long as those allow. The MaxWaiters of the pool bounds
	// how many may wait.
	Wait time.Duration

	// Owner is whom the connections are for, where the pool tells owners apart: tuple.StickyOwner, Pool.MaxPerOwner. A copy of
	// a Dialer with another Owner costs nothing.
	Owner string

	// Raw, if it is set, has Dial and DialContext return bare [*net.TCPConn] instead of TCPConn, for code that looks for that very
	// type. The Tracker gives their tuples back, somewhat later than a TCPConn does: see there. DialTCP does not look at it.
	Raw *Tracker

	// FreeBind is for Sources that are a whole prefix of which the host has a route only, and no interface the addresses: "ip
	// route add local 2001:db8::/64 dev lo". IPv6 needs it for that; IPv4 does not. On Linux sockets are then made with
	// IP_FREEBIND, and IP_TRANSPARENT too if the process has CAP_NET_ADMIN or CAP_NET_RAW, which lets them leave from any address.
	// With an address whose answers do not come back to this host a dial runs into its timeout, where it would be an error
	// without FreeBind. Elsewhere it is an error to set it.
	FreeBind bool

	// ExclusiveUDP keeps the UDP sockets of this Dialer apart from those of other processes that leave from the same source and
	// ports, each with a pool of its own: before a tuple is used the kernel is asked (sock_diag) whether a socket has it, and two
	// processes that ask at the same time are kept apart by a lock. That holds among all Dialers of a network namespace that set
	// it; a program that binds the port with SO_REUSEADDR later is not kept out. A dial then takes twice as long, thrice if the
	// pool has no Sources; slices of the ports cost nothing. Nothing but Linux needs it.
	ExclusiveUDP bool
}

var plainDialer net.Dialer // never modified

// Dial is DialContext with the background context.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects to address as [net.Dialer.DialContext] does. For the networks tcp, tcp4 and tcp6 the connection is
// a [*TCPConn], or a [*net.TCPConn] if Raw is set; for udp, udp4 and udp6 a [*UDPConn]. Every other network is passed to
// NetDialer as it is.
//
// Each address that a name resolves to is an attempt with a tuple of its own, for TCP raced as net.Dialer does (RFC 6555),
// and given its share of the timeout. Addresses of a family in which the pool has no source are left out.
//
// Its errors are [*net.OpError], that of the first address if there are several. If no tuple was free in time, errors.Is
// finds [tuple.ErrExhausted] and syscall.EADDRNOTAVAIL.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if ctx == nil {
		panic("nil context")
	}
	nd := d.netDialer()
	if !isTCP(network) && !isUDP(network) {
		return nd.DialContext(ctx, network, address)
	}
	if d.Raw != nil && isTCP(network) {
		if err := d.Raw.ready(nd); err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Source: nd.LocalAddr, Err: err}
		}
	}
	c, err := newCall(d, nd, network)
	if err == nil {
		err = c.leaveFrom(nd.LocalAddr)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Source: nd.LocalAddr, Err: err}
	}
	conn, err := c.dial(ctx, address)
	if tc, ok := conn.(*TCPConn); ok && d.Raw != nil {
		return d.Raw.adopt(tc, &c)
	}
	return conn, err
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
