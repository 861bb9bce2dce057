package dialer

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// ForceBindLane makes every port use the bind lane until the test ends.
func ForceBindLane(t testing.TB) {
	s := *readSettings(nil)
	s.kernels, s.read = alloc.Set{}, time.Now().Add(24*time.Hour) // never old
	current.Store(&s)
	t.Cleanup(ForgetFacts)
}

// ForceOtherSystem makes the dialer behave as on a system without exact ports, from now on.
func ForceOtherSystem() { exact = false }

// ForceOldKernel makes the dialer behave as before Linux 6.3, from now on.
func ForceOldKernel() {
	ask := kernelHas
	kernelHas = func() (sockopt.Abilities, error) {
		can, err := ask()
		can.PortRange = false
		return can, err
	}
	ForgetFacts()
}

// ForceNewKernel makes the dialer behave as if the kernel honours IP_LOCAL_PORT_RANGE, from now on.
func ForceNewKernel() {
	ask := kernelHas
	kernelHas = func() (sockopt.Abilities, error) {
		can, err := ask()
		can.PortRange = true
		return can, err
	}
	ForgetFacts()
}

// ForgetFacts makes the next dial read the settings again.
func ForgetFacts() { current.Store(nil) }

// TakesRangeLane reports whether a dial from port would use the range lane first.
func TakesRangeLane(port uint16) bool {
	t := tuple.From(netip.AddrPortFrom(netip.IPv4Unspecified(), port), netip.MustParseAddrPort("127.0.0.1:1"))
	a := &attempt{call: newCall(new(Dialer), &plainDialer, "tcp"), settings: currentSettings()}
	return a.lanes(t, new(tuple.Pool))[0] == rangeLane
}

// HasRangeLane reports whether the kernel has IP_LOCAL_PORT_RANGE, as far as the dialer knows.
func HasRangeLane() bool {
	can, err := kernelHas()
	return err == nil && can.PortRange
}

// Drain drops what has arrived at c.
func Drain(c *net.UDPConn) {
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(sockopt.Drain)
	}
}

// SetReceiveBuffer makes t listen with a receive buffer so small that messages are lost. 0 means the usual one. Call it
// before the first use of t.
func (t *Tracker) SetReceiveBuffer(bytes int) { t.buffer = bytes }

// Rounds returns how often t compared the TCP connections that it follows with the kernel's tables.
func (t *Tracker) Rounds() uint64 {
	t.tcp.mu.Lock()
	defer t.tcp.mu.Unlock()
	return t.tcp.round
}

// Followed returns the tuples in the kernel of the sockets that t follows.
func (t *Tracker) Followed() map[tuple.Tuple]bool {
	all := make(map[tuple.Tuple]bool)
	for _, f := range []*follower{&t.tcp, &t.udp} {
		f.mu.Lock()
		for _, one := range f.held {
			all[one.real] = true
		}
		f.mu.Unlock()
	}
	return all
}

// Reserve is reserve.
func Reserve(p *tuple.Pool, t tuple.Tuple, owner string) tuple.State { return reserve(p, t, owner) }

// HasSocket is hasSocket.
func HasSocket(network string, local, remote netip.AddrPort) (bool, error) {
	return hasSocket(network, local, remote)
}
