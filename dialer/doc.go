// Package dialer opens connections: its [Dialer] is a drop-in for [net.Dialer] that gives each connection, TCP or UDP, a
// 4-tuple of its own, so that one local port serves many destinations at once.
//
//	var d dialer.Dialer
//	transport := &http.Transport{DialContext: d.DialContext, ForceAttemptHTTP2: true}
//
// A [tuple.Pool] chooses the local port, and the local address if it has sources, for each address that is tried, and
// gets them back on every way out: when the connection is closed, after the 60 seconds of TIME_WAIT if that is on this
// side, and when the attempt fails.
//
// # Linux
//
// There are two ways to make the kernel use an exact port without reserving it for one connection, and the port alone says
// which is taken. A port that the kernel too would choose (see [HostPorts]) is named by IP_LOCAL_PORT_RANGE: such ports are
// shared with every other program, and the kernel watches over TIME_WAIT. Any other port is bound with SO_REUSEADDR, and so is
// every port for UDP. Where the kernel says that somebody else has the tuple or the port, a server that listens on it for
// instance, it is kept back for 10 seconds, counted among those that cool down, and the next one is tried. Where nothing else is
// free and the kernel but waits for the peer's last word, that is a tenth of a second.
//
// Linux before 6.3 has no IP_LOCAL_PORT_RANGE. If the pool has all ports that the kernel would choose, the kernel chooses among
// them, by IP_BIND_ADDRESS_NO_PORT (Linux 4.2) where there is a source address, and the pool enters what it chose; else they are
// bound too, and then no plain dial of another program uses them. What the kernel can do is asked once in a network namespace,
// and again when it seems to have changed.
//
// A pool knows of its own tuples alone. [Adopt] enters what the kernel has already, of a process that died for instance, and
// [Audit] compares the two accounts.
//
// Libraries that take a [net.Dialer] or look for the type [net.TCPConn] get those from a [Tracker].
//
// # Other systems
//
// The operating system chooses the port, as for net.Dialer, and the pool keeps the account: it limits, waits and counts, and
// enters the port that came out if it has it. It cannot promise an exact port, nor that a port of its own choice is free, nor
// that ports are shared: macOS and FreeBSD bind a port to one socket alone where a source address is given, and Windows in
// every case, for the connect that Go uses there (ConnectEx) needs a bound socket. On Windows a Control of NetDialer may set
// SO_REUSE_UNICASTPORT (0x3007, Windows 10), by whose documentation ports are then shared among destinations.
//
// # Errors
//
// Errors are [*net.OpError]. If no tuple is free, errors.Is finds both [tuple.ErrExhausted] and syscall.EADDRNOTAVAIL:
//
//	dial tcp 198.51.100.7:443: no free local port towards 198.51.100.7:443 (28232 in use, 0 cooling down): cannot assign requested address
package dialer
