package dialer

import (
	"net"
	"testing"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// ForceBindLane has every port take the bind lane until the test ends, as on a kernel before Linux 6.3.
func ForceBindLane(t testing.TB) {
	facts.Store(&kernelFacts{read: time.Now().Add(24 * time.Hour)}) // never stale
	t.Cleanup(ForgetFacts)
}

// ForgetFacts has what the lanes depend on read again by the next dial.
func ForgetFacts() { facts.Store(nil) }

// TakesRangeLane reports whether a dial from port would take the range lane.
func TakesRangeLane(port uint16) bool { return laneOf(port) == rangeLane }

// HasRangeLane reports whether the kernel has IP_LOCAL_PORT_RANGE.
func HasRangeLane() bool {
	known, err := sockopt.HasPortRange()
	return err == nil && known
}

// Tuple returns the tuple that c holds.
func (c *TCPConn) Tuple() tuple.Tuple { return c.held.tuple }

// Tuple returns the tuple that c holds.
func (c *UDPConn) Tuple() tuple.Tuple { return c.held.tuple }

// Drain is drain.
func Drain(c *net.UDPConn) { drain(c) }
