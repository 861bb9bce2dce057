// Package dialer opens connections. Its [Dialer] is a drop-in for [net.Dialer] that gives each TCP and UDP connection
// its own 4-tuple, so that one local port serves many destinations at once.
//
//	var d dialer.Dialer
//	transport := &http.Transport{DialContext: d.DialContext, ForceAttemptHTTP2: true}
//
// A [tuple.Pool] chooses the local port for each address that is tried. It chooses the local address too if it has
// Sources. The tuple goes back to the pool when the attempt fails or the connection is closed.
//
// # Never worse than net.Dialer
//
// The zero Dialer dials everything that the zero net.Dialer can dial, at the same rate. The pool follows the kernel:
//
//   - A tuple cools down for as long as the kernel refuses it to a new connection. See [TCPConn.Close].
//   - When nothing is free, the dial compares the pool with the kernel (sock_diag) before it fails, and again while it
//     waits. Tuples that the kernel no longer holds become free. For these questions at most two idle netlink sockets
//     per network namespace stay open for some time.
//   - A tuple that the kernel refuses is taken (tuple.Taken): others have it. It counts in no quota. It becomes free
//     when the kernel lets go of it; its state in the kernel tells how long that takes.
//   - A port that the process may not bind is not tried again for 10 minutes.
//   - Dials read the settings of the host (net.ipv4.ip_local_port_range, ip_local_reserved_ports, tcp_tw_reuse,
//     tcp_tw_reuse_delay) again when they are older than one second.
//   - If the pool does not name its ports and the kernel refuses several tuples without a visible reason, the kernel
//     chooses the port of the last try, as for net.Dialer.
//
// # Linux
//
// There are two ways to use an exact port without reserving it for one connection. The port decides which one is tried
// first:
//
//   - A port that the kernel would choose itself (see [HostPorts]) is named by IP_LOCAL_PORT_RANGE (Linux 6.3). Such a
//     port is shared with every other program, and the kernel guards its TIME_WAIT.
//   - Any other port is bound with SO_REUSEADDR.
//
// The first way can fail because another program bound the port, or because the range was moved. If the kernel refuses
// a port and has no socket on the tuple, the dialer tries the other way.
//
// Linux before 6.3 does not have IP_LOCAL_PORT_RANGE, and some sandboxes accept it and ignore it. There the kernel
// chooses the port if the pool has all ports that the kernel would choose (IP_BIND_ADDRESS_NO_PORT, Linux 4.2), and
// the pool records the choice. If the pool has only some of them, the ports are bound. Plain dials of other programs
// then cannot use these ports.
//
// UDP ports are bound. The kernel would give the same tuple to two sockets, so a Dialer checks that no other socket of
// the host has it. See [Dialer.SharedUDP].
//
// A pool knows only its own tuples. [Adopt] records what the kernel already has, for example from a process that died.
// [Audit] compares the pool with the kernel.
//
// A [Tracker] serves libraries that take a [net.Dialer], or look for the types [net.TCPConn] and [net.UDPConn].
//
// # Other systems
//
// The operating system chooses the port, as for net.Dialer. The pool limits, waits and counts. It records the port
// that the system chose if that port belongs to it. It cannot promise an exact port, that its own choice is free, or
// that ports are shared.
//
// macOS and FreeBSD bind a port to a single socket if a source address is given. Windows always does, because the
// connect that Go uses there (ConnectEx) needs a bound socket. On Windows a Control of NetDialer may set
// SO_REUSE_UNICASTPORT (0x3007, Windows 10). Its documentation says that ports are then shared among destinations.
//
// # Errors
//
// Errors are [*net.OpError]. If no tuple is free, errors.Is finds both [tuple.ErrExhausted] and syscall.EADDRNOTAVAIL:
//
//	dial tcp 198.51.100.7:443: no free local port: cannot assign requested address (28229 in use, 3 taken)
//
// What varies from dial to dial stands in parentheses at the end, so that logs can be grouped by the beginning.
package dialer
