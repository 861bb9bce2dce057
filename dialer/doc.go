// Package dialer opens connections: its [Dialer] is a drop-in for [net.Dialer] that gives each connection, TCP or
// UDP, a 4-tuple of its own, so that one local port serves many destinations at once.
//
//	var d dialer.Dialer
//	transport := &http.Transport{DialContext: d.DialContext, ForceAttemptHTTP2: true}
//
// A [tuple.Pool] chooses the local port, and the local address if it has sources, for each address that is tried. It
// gets them back on every way out: when the connection is closed, and when the attempt fails.
//
// # Never worse than net.Dialer
//
// The zero Dialer dials whatever the zero net.Dialer can dial, at the same rate. The account follows the kernel:
//
//   - A tuple cools down for as long as this kernel keeps it from a new connection: see [TCPConn.Close].
//   - Before a dial fails because nothing is free, and while it waits, the account of the destination is compared
//     with the kernel (sock_diag). What the kernel no longer holds is free. For such questions up to two netlink
//     sockets in each network namespace stay open until they have been idle for a while.
//   - A tuple that the kernel refuses is taken (tuple.Taken): the kernel has it for something else. It counts in no
//     quota, and it comes back when the kernel lets go of it. How long that takes follows from its state in the kernel.
//   - A port that the process may not bind is left out for 10 minutes.
//   - The settings of the host (net.ipv4.ip_local_port_range, ip_local_reserved_ports, tcp_tw_reuse,
//     tcp_tw_reuse_delay) are read again every second.
//   - If the ports of the pool are not named, and the kernel refuses one after the other without a reason that it
//     shows, the last try leaves the choice to the kernel, as net.Dialer does.
//
// # Linux
//
// There are two ways to make the kernel use an exact port without reserving it for one connection. The port suggests
// which one is used. A port that the kernel would choose itself (see [HostPorts]) is named by IP_LOCAL_PORT_RANGE
// (Linux 6.3). Such ports are shared with every other program, and the kernel guards TIME_WAIT. Any other port is
// bound with SO_REUSEADDR. A port has a history, because somebody bound it or the range was moved. So where the
// kernel refuses a port in one way and has no socket on the tuple, the other way is tried.
//
// Linux before 6.3 has no IP_LOCAL_PORT_RANGE, and some sandboxes accept it and ignore it. If the pool has all ports
// that the kernel would choose, the kernel then chooses among them (IP_BIND_ADDRESS_NO_PORT, Linux 4.2), and the pool
// enters what it chose. Else the ports are bound, and no plain dial of another program uses them.
//
// UDP ports are bound. The kernel would give two sockets the same tuple, so a Dialer makes sure that no other socket
// of the host has it: see [Dialer.SharedUDP].
//
// A pool knows only its own tuples. [Adopt] enters what the kernel has already, for instance of a process that died,
// and [Audit] compares the two accounts.
//
// Libraries that take a [net.Dialer], or look for the types [net.TCPConn] and [net.UDPConn], get those from a
// [Tracker].
//
// # Other systems
//
// The operating system chooses the port, as for net.Dialer, and the pool keeps the account: it limits, waits and
// counts, and enters the port that came out if it has it. It cannot promise an exact port, nor that a port of its own
// choice is free, nor that ports are shared. macOS and FreeBSD bind a port to one socket alone if a source address is
// given. Windows always does, because the connect that Go uses there (ConnectEx) needs a bound socket. On Windows a
// Control of NetDialer may set SO_REUSE_UNICASTPORT (0x3007, Windows 10): by its documentation ports are then shared
// among destinations.
//
// # Errors
//
// Errors are [*net.OpError]. If no tuple is free, errors.Is finds both [tuple.ErrExhausted] and syscall.EADDRNOTAVAIL:
//
//	dial tcp 198.51.100.7:443: no free local port: cannot assign requested address (28232 in use, 3 taken, next try in 2.1s)
//
// What varies from dial to dial stands in parentheses at the end, so that logs can be grouped by what comes before.
package dialer
