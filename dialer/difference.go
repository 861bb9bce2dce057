package dialer

import (
	"fmt"
	"time"

	"github.com/ephemera-go/ephemera/tuple"
)

// Difference is a tuple, or a port, of which a pool and the kernel do not say the same. It is a plain, comparable
// value.
type Difference struct {
	// Tuple is that of the socket or, if there is none, that of the pool. Of a socket that listens it is the local
	// end alone.
	Tuple tuple.Tuple

	// Pool is what the pool says: free, in use or cooling down; tuple.Foreign of a socket that listens.
	Pool tuple.State

	// Kernel is the state of the socket, as ss(8) writes it: "ESTAB", "TIME-WAIT", "LISTEN", "UNCONN". Empty: there
	// is none.
	Kernel string

	// Sockets is how many sockets there are.
	Sockets int

	// Expires is what is left of TIME-WAIT; else it is 0.
	Expires time.Duration

	// UID is the user whose socket it is. The kernel does not know it in TIME-WAIT and says 0.
	UID uint32
}

// String says it in a sentence.
func (d Difference) String() string {
	switch {
	case d.Pool == tuple.Foreign:
		return fmt.Sprintf("%v: the pool hands out this port, and user %d has a socket there in %s: take it out of the pool's Ports",
			d.Tuple.Src(), d.UID, d.Kernel)
	case d.Kernel == "":
		return fmt.Sprintf("%v: in use in the pool, and the kernel has no socket: it was not given back, or its connection is over and not closed", d.Tuple)
	case d.Sockets > 1:
		return fmt.Sprintf("%v: %s in the pool, and the kernel has %d sockets, in %s", d.Tuple, d.Pool, d.Sockets, d.Kernel)
	case d.Kernel == "TIME-WAIT":
		return fmt.Sprintf("%v: %s in the pool, and the kernel has it in TIME-WAIT for another %v", d.Tuple, d.Pool, d.Expires)
	}
	return fmt.Sprintf("%v: %s in the pool, and the kernel has it in %s, of user %d", d.Tuple, d.Pool, d.Kernel, d.UID)
}
