// Package sockopt sets and reads the socket options that give a dial an exact local port. The Linux part follows
// net/ipv4/ip_sockglue.c, inet_connection_sock.c and tcp.c. On other systems it does nothing.
package sockopt

import "time"

// Abilities says what a kernel can do.
type Abilities struct {
	PortRange bool   // it honours IP_LOCAL_PORT_RANGE: Linux 6.3
	Names     bool   // getsockname(2) works: a sandbox may forbid it
	Namespace uint64 // the SO_NETNS_COOKIE of the network namespace: Linux 5.14; 0 on older kernels
}

// State is the state of a TCP socket just before it is closed.
type State struct {
	TCP        uint8         // a state of include/net/tcp_states.h
	Timestamps bool          // both ends send TCP timestamps (RFC 7323)
	RTT        time.Duration // the smoothed round-trip time; 0 if it was never measured
	Abort      bool          // SO_LINGER is 0 seconds, so close(2) sends a reset; not read in CloseWait and LastAck

	Unread bool // bytes have arrived and are not read yet; close(2) sends a reset if they stay unread

	// Path and Namespace are read only in the state Close, or if Unread is true.
	Path      Path
	Namespace uint64 // as in Abilities
}

// Path has the options of a socket that decide the route of its packets, and so the source address that the kernel
// chooses. The zero Path means that none of them is set.
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
