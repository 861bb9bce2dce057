package dialer

import (
	"errors"
	"net/netip"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

const (
	// lastWord is the time until the next try of a tuple whose socket waits for one more packet of the peer, usually
	// for one round trip: LAST-ACK, CLOSING.
	lastWord = 100 * time.Millisecond

	// silence is the same if the peer has not answered our close, perhaps for minutes: FIN-WAIT-1, FIN-WAIT-2.
	silence = time.Second

	// overdue is the same if the time of a TIME_WAIT is over. Timers of more than 32 seconds are up to 2 s late with
	// 250 ticks a second, and 4 s with 1,000 (kernel/time/timer.c).
	overdue = 250 * time.Millisecond
)

// inKernel returns the socket that the kernel has on a tuple of the attempt, if there is one.
func (a *attempt) inKernel(t tuple.Tuple) (s sockdiag.Socket, found bool) {
	local, err := a.localEnd(t)
	if err != nil || !a.settings.diagnoses {
		return s, false
	}
	for _, remote := range ledgerOf(a.pool).ways(a.remote) {
		s, found, err = look(sockdiag.Exact{
			Local: local, Remote: remote, Device: a.device(), Namespace: a.settings.namespace,
		})
		if found && err == nil {
			return s, true
		}
	}
	return s, false
}

// isUsed reports whether the kernel has a TCP socket with a local end, whatever its remote end is. A BPF program may
// have changed the destination that was dialled.
func (a *attempt) isUsed(local netip.AddrPort) bool {
	if local.Addr().IsUnspecified() {
		local = netip.AddrPortFrom(netip.Addr{}, local.Port())
	}
	for _, err := range (sockdiag.Query{Local: sockdiag.At(local)}).All() {
		return err == nil
	}
	return false
}

// look asks the kernel for one TCP socket. If there is none, it asks twice, because a socket cannot be found at the
// moment when it changes to TIME_WAIT (inet_twsk_hashdance_schedule in net/ipv4/inet_timewait_sock.c). That happened in
// one of some thousand cancelled dials.
func look(x sockdiag.Exact) (s sockdiag.Socket, found bool, err error) {
	for range 2 {
		if s, found, err = x.Lookup(); found || err != nil {
			break
		}
	}
	return s, found, err
}

// device returns the index of the device to which the sockets of the attempt are bound, 0 if to none.
func (a *attempt) device() int { return deviceOf(a.socket.path, a.remote.Addr()) }

// reuses reports whether the kernel lets a new connection have the tuple of a socket in TIME_WAIT.
func (s *settings) reuses(socket *sockdiag.Socket) bool {
	return socket.State == sockdiag.TimeWait && s.untilReused(socket) <= 0
}

// loopbackIndex is the index of lo in each network namespace (LOOPBACK_IFINDEX in include/net/flow.h).
const loopbackIndex = 1

// untilReused returns how long it takes until the kernel does.
func (s *settings) untilReused(socket *sockdiag.Socket) time.Duration {
	loopback := socket.Local.Addr().IsLoopback() || socket.Remote.Addr().IsLoopback() || socket.Device == loopbackIndex
	if reuse := s.timeWaitOf(loopback, true); reuse < timeWait {
		return socket.Expires - (timeWait - reuse)
	}
	return socket.Expires + overdue
}

// untilFree returns how long it takes until the tuple of a socket is worth another try.
func (s *settings) untilFree(socket *sockdiag.Socket) time.Duration {
	return coarse(s.exactlyUntilFree(socket))
}

// coarse rounds d up by at most a 16th. A pool has one queue for each duration, so this keeps their number low.
func coarse(d time.Duration) time.Duration {
	unit := time.Millisecond
	for d > 16*unit {
		unit *= 2
	}
	return (d + unit - 1) / unit * unit
}

func (s *settings) exactlyUntilFree(socket *sockdiag.Socket) time.Duration {
	switch {
	case socket.State == sockdiag.TimeWait:
		left := s.untilReused(socket)
		if left < -overdue { // the kernel should have reused it: one end sent no timestamps
			return min(socket.Expires+overdue, refusedFor)
		}
		return max(left, time.Millisecond) // the kernel refused it a moment too early
	case socket.Inode != 0:
		return refusedFor
	case socket.State == sockdiag.LastAck || socket.State == sockdiag.Closing:
		return lastWord
	}
	return silence
}

// endAsLeft is end for a connection that is closed already. It ended as e says, unless the kernel has something left of
// it, usually TIME_WAIT. s names the network namespace of the socket; 0 means that of the thread.
func (l lease) endAsLeft(e ending, local, remote netip.AddrPort, s sockopt.State) {
	left, found, err := look(sockdiag.Exact{
		Local: local, Remote: remote, Device: deviceOf(s.Path, remote.Addr()), Namespace: s.Namespace,
	})
	switch {
	case errors.Is(err, sockdiag.ErrElsewhere):
		l.abandon()
	case found:
		l.retire(tuple.ActiveClose, currentSettings().untilFree(&left))
	default: // nothing is left or, after an error, the kernel itself refuses the tuple or reuses it (RFC 6191)
		e.rtt = 0
		l.end(e)
	}
}

// deviceOf returns the index of the device to which a socket with this path is bound when it connects to ip, 0 if to
// none. A link-local IPv6 address binds it.
func deviceOf(p sockopt.Path, ip netip.Addr) int {
	switch {
	case p.Device != "":
		return sockopt.Index(p.Device)
	case isOnDevice(ip):
		return sockopt.Index(ip.Zone())
	}
	return 0
}

// isOnDevice reports whether ip binds a socket that connects to it to a device. Link-local IPv6 addresses do.
func isOnDevice(ip netip.Addr) bool { return ip.Is6() && ip.IsLinkLocalUnicast() }
