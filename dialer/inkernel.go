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
	// lastWord is when a tuple is worth another try whose socket waits for one more packet of the peer's, for a round
	// trip as a rule: LAST-ACK, CLOSING.
	lastWord = 100 * time.Millisecond

	// silence is that of one whose peer has not answered our close, for minutes perhaps: FIN-WAIT-1, FIN-WAIT-2.
	silence = time.Second

	// overdue is that of TIME_WAIT whose time is over. The kernel's timers of more than 32 seconds are up to 2 s late
	// with 250 ticks a second, half a second with 1,000 (kernel/time/timer.c).
	overdue = 250 * time.Millisecond
)

// inKernel returns what the kernel has on a tuple of the attempt, if anything.
func (a *attempt) inKernel(t tuple.Tuple) (s sockdiag.Socket, found bool) {
	local, err := a.localEnd(t)
	if err != nil || !a.settings.diagnoses {
		return s, false
	}
	for _, remote := range ledgerOf(a.pool).ways(a.remote) {
		s, found, err = look(sockdiag.Exact{Local: local, Remote: remote, Device: a.device(), Namespace: a.settings.namespace})
		if found && err == nil {
			return s, true
		}
	}
	return s, false
}

// isUsed reports whether the kernel has a TCP socket on a local end, whatever it is connected to: a BPF program may
// have exchanged the destination that was dialled for another.
func (a *attempt) isUsed(local netip.AddrPort) bool {
	if local.Addr().IsUnspecified() {
		local = netip.AddrPortFrom(netip.Addr{}, local.Port())
	}
	for _, err := range (sockdiag.Query{Local: sockdiag.At(local)}).All() {
		return err == nil
	}
	return false
}

// look asks the kernel for one TCP socket. Nothing counts as nothing if it was seen twice, because a socket is not to
// be found at the instant in which it goes over to TIME_WAIT (inet_twsk_hashdance_schedule in
// net/ipv4/inet_timewait_sock.c): so it was in one of some thousand cancelled dials.
func look(x sockdiag.Exact) (s sockdiag.Socket, found bool, err error) {
	for range 2 {
		if s, found, err = x.Lookup(); found || err != nil {
			break
		}
	}
	return s, found, err
}

// device returns the index of the device that the sockets of the attempt are bound to, 0 if to none.
func (a *attempt) device() int { return deviceOf(a.socket.path, a.remote.Addr()) }

// reuses reports whether the kernel lets a new connection have what a socket left in TIME_WAIT.
func (s *settings) reuses(socket *sockdiag.Socket) bool {
	return socket.State == sockdiag.TimeWait && s.untilReused(socket) <= 0
}

// loopbackIndex is the index of lo in each network namespace (LOOPBACK_IFINDEX in include/net/flow.h).
const loopbackIndex = 1

// untilReused returns when that is so.
func (s *settings) untilReused(socket *sockdiag.Socket) time.Duration {
	loopback := socket.Local.Addr().IsLoopback() || socket.Remote.Addr().IsLoopback() || socket.Device == loopbackIndex
	if reuse := s.timeWaitOf(loopback, true); reuse < timeWait {
		return socket.Expires - (timeWait - reuse)
	}
	return socket.Expires + overdue
}

// untilFree returns when the tuple of a socket is worth another try.
func (s *settings) untilFree(socket *sockdiag.Socket) time.Duration {
	return coarse(s.exactlyUntilFree(socket))
}

// coarse rounds d up by a 16th at most, so that a pool, which keeps a queue for each duration, has few of them.
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
		if left < -overdue { // it should have been reused: one end sent no timestamps
			return min(socket.Expires+overdue, refusedFor)
		}
		return max(left, time.Millisecond) // the kernel has refused it an instant too early
	case socket.Inode != 0:
		return refusedFor
	case socket.State == sockdiag.LastAck || socket.State == sockdiag.Closing:
		return lastWord
	}
	return silence
}

// endAsLeft is end for a connection that is closed: it ended as e says unless the kernel has something left of it,
// TIME_WAIT as a rule. The socket was in this network namespace, or in the thread's if that is 0.
func (l lease) endAsLeft(e ending, local, remote netip.AddrPort, s sockopt.State) {
	left, found, err := look(sockdiag.Exact{
		Local: local, Remote: remote, Device: deviceOf(s.Path, remote.Addr()), Namespace: s.Namespace,
	})
	switch {
	case errors.Is(err, sockdiag.ErrElsewhere):
		l.abandon()
	case found:
		l.retire(tuple.ActiveClose, currentSettings().untilFree(&left))
	default: // nothing is under way any more. After an error, the kernel refuses what it has, or takes it (RFC 6191)
		e.rtt = 0
		l.end(e)
	}
}

// deviceOf returns the index of the device that a socket with this path is bound to when it connects to ip, 0 if to
// none. A link-local address of IPv6 binds it.
func deviceOf(p sockopt.Path, ip netip.Addr) int {
	switch {
	case p.Device != "":
		return sockopt.Index(p.Device)
	case isOnDevice(ip):
		return sockopt.Index(ip.Zone())
	}
	return 0
}

// isOnDevice reports whether a socket that is connected to ip is bound to a device by that: a link-local one of IPv6.
func isOnDevice(ip netip.Addr) bool { return ip.Is6() && ip.IsLinkLocalUnicast() }
