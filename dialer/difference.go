package dialer

import (
	"fmt"
	"time"

	"github.com/ephemera-go/ephemera/tuple"
)

// Difference is a tuple or port on which a pool and the kernel disagree. It is a comparable value.
type Difference struct {
	// Tuple is the tuple of the socket or, if there is none, the one in the pool. A listener has only a local end.
	Tuple tuple.Tuple

	// Pool is the state in the pool: free, in use or cooling down. It is tuple.Foreign for a listener.
	Pool tuple.State

	// Kernel is the state of the socket as ss(8) writes it: "ESTAB", "TIME-WAIT", "LISTEN", "UNCONN". It is empty if
	// there is no socket.
	Kernel string

	// Sockets is the number of sockets.
	Sockets int

	// Expires is the time that is left of TIME-WAIT, and 0 in any other state.
	Expires time.Duration

	// UID is the user who owns the socket. In TIME-WAIT it is 0, because the kernel does not know the user any more.
	UID uint32
}

// String returns the difference as a sentence.
func (d Difference) String() string {
	switch {
	case d.Pool == tuple.Foreign:
		return fmt.Sprintf("%v: the pool hands out this port, but the kernel has a socket there in %s, of user %d: "+
			"remove it from the pool's Ports", d.Tuple.Src(), d.Kernel, d.UID)
	case d.Kernel == "":
		return fmt.Sprintf("%v: in use in the pool, but the kernel has no socket: "+
			"the tuple was not released, or its connection has ended and was not closed", d.Tuple)
	case d.Sockets > 1:
		return fmt.Sprintf("%v: %s in the pool, and the kernel has %d sockets, in %s",
			d.Tuple, d.Pool, d.Sockets, d.Kernel)
	case d.Kernel == "TIME-WAIT":
		return fmt.Sprintf("%v: %s in the pool, and the kernel has it in TIME-WAIT for another %v",
			d.Tuple, d.Pool, d.Expires)
	}
	return fmt.Sprintf("%v: %s in the pool, and the kernel has it in %s, of user %d", d.Tuple, d.Pool, d.Kernel, d.UID)
}
