// Package sockopt sets and reads the socket options by which a dial gets an exact local port. Its Linux half follows
// net/ipv4/ip_sockglue.c, inet_connection_sock.c and tcp.c; elsewhere it does nothing.
package sockopt

// Abilities is what a kernel can do.
type Abilities struct {
	PortRange bool   // it knows IP_LOCAL_PORT_RANGE: Linux 6.3
	Namespace uint64 // the network namespace that was asked, a number without a meaning: Linux 5.14; 0 if it does not tell
}

// State is what a TCP socket says of itself just before it is closed.
type State struct {
	TCP   uint8 // a state of include/net/tcp_states.h
	Abort bool  // SO_LINGER of zero is set: close(2) sends a reset; not known in the states CloseWait and LastAck

	Unread bool // bytes have arrived that nobody has read: if it stays so, close(2) sends a reset

	// Known only in the state Close and if something is unread:
	OnDevice  bool   // SO_BINDTODEVICE is set
	Namespace uint64 // as that of Abilities
}

// The states of include/net/tcp_states.h that a connected socket can be in.
const (
	Established = 1
	FinWait1    = 4
	FinWait2    = 5
	TimeWait    = 6
	Close       = 7
	CloseWait   = 8
	LastAck     = 9
	Closing     = 11
)
