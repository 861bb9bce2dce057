// Package sockopt sets and reads the socket options by which a dial gets an exact local port. Its Linux half follows
// net/ipv4/ip_sockglue.c, inet_connection_sock.c and tcp.c; elsewhere it does nothing.
package sockopt

import "time"

// Abilities is what a kernel can do.
type Abilities struct {
	PortRange bool   // it honours IP_LOCAL_PORT_RANGE: Linux 6.3
	Names     bool   // it tells the ends of a socket: a sandbox may forbid getsockname(2)
	Namespace uint64 // the network namespace that was asked, a number without a meaning: Linux 5.14; 0 if it does not tell
}

// State is what a TCP socket says of itself just before it is closed.
type State struct {
	TCP        uint8         // a state of include/net/tcp_states.h
	Timestamps bool          // both ends send TCP timestamps (RFC 7323)
	RTT        time.Duration // the smoothed round-trip time; 0 if it was never measured
	Abort      bool          // SO_LINGER of zero is set: close(2) sends a reset; not read in CloseWait and LastAck

	Unread bool // bytes have arrived that nobody has read: if it stays so, close(2) sends a reset

	// Read only in the state Close and if something is unread:
	Path      Path
	Namespace uint64 // as in Abilities
}

// Path is what a socket's owner has set that decides the way of its packets, and so the source address that the kernel
// chooses. The zero Path is that of a socket of which nothing was set.
type Path struct {
	Device string // SO_BINDTODEVICE
	Mark   int    // SO_MARK
}

// The states of include/net/tcp_states.h that a connected socket can be in.
const (
	Established = 1
	SynSent     = 2
	SynRecv     = 3
	FinWait1    = 4
	FinWait2    = 5
	TimeWait    = 6
	Close       = 7
	CloseWait   = 8
	LastAck     = 9
	Closing     = 11
)
