package dialer

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// refusal is what the failure of a try means. The zero refusal means that the socket is connected.
type refusal struct {
	of      answer
	err     error
	freeIn  time.Duration // how long until the tuple is worth another try
	pending bool          // the socket could not be closed
}

// answer is what a refusal depends on. One error number of the kernel can mean several things.
type answer uint8

const (
	nothing   answer = iota
	theDial          // the source, the route, the peer or the process: another tuple does not help
	theLane          // the settings were wrong for the socket and were read again: the same tuple may work
	theTuple         // probably the tuple, but the kernel has nothing there
	theSocket        // the kernel has a socket on the tuple, or what is left of one
	thePort          // somebody has bound the port
	thePolicy        // the process may not bind the port
)

const (
	// refusedFor is how long a tuple that others have stays taken. To try it again costs 20 µs.
	refusedFor = 10 * time.Second

	// forbiddenFor is how long a port that a policy forbids is not tried.
	forbiddenFor = 10 * time.Minute
)

// refusalOf returns what err means, the error of a try from t in the lane l.
func (a *attempt) refusalOf(err error, t tuple.Tuple, l lane) refusal {
	if err == nil {
		return refusal{}
	}
	_, users := err.(controlError) // the caller's error may look like one of the kernel
	bind := isSyscall(err, "bind") && l.binds()
	connect := isSyscall(err, "connect") && !a.udp && l != plainLane
	r := refusal{of: theDial, err: err}
	switch {
	case users:
	case errors.Is(err, errLane):
		if a.moves++; a.moves <= mostMoves {
			r.of, a.settings = theLane, readSettings(a.settings)
		}
		if a.moves == mostMoves {
			unknown := *a.settings
			unknown.namespace = 0
			a.settings = &unknown
		}
	case errors.Is(err, errTaken):
		r.of, r.freeIn = theSocket, refusedFor
	case errors.Is(err, errPortShared), bind && errors.Is(err, syscall.EADDRINUSE):
		if r.of, r.freeIn = thePort, refusedFor; !a.udp && !a.settings.diagnoses {
			r.freeIn = lastWord // it may be in TIME_WAIT, and nothing tells for how long
		}
	case bind && (errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)):
		r.of, r.freeIn = thePolicy, forbiddenFor
	case connect && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EADDRINUSE)) && a.hasSource(t):
		r.of, r.freeIn = theTuple, lastWord
		if s, found := a.inKernel(t); found {
			r.of, r.freeIn = theSocket, a.settings.untilFree(&s)
		}
	}
	return r
}

// hasSource reports whether there is an address to connect from. If nobody chose an address and the kernel has none,
// connect(2) returns the same error as for a tuple in use.
func (a *attempt) hasSource(t tuple.Tuple) bool {
	_, err := a.localEnd(t)
	return !errors.Is(err, syscall.EADDRNOTAVAIL)
}

// localEnd is localOf with the address that the kernel chooses. It asks for a socket like the refused one, with the
// same device and mark.
func (a *attempt) localEnd(t tuple.Tuple) (netip.AddrPort, error) {
	local := a.localOf(t)
	if local.Addr().IsValid() {
		return local, nil
	}
	var err error
	if !a.chosen.IsValid() {
		a.chosen, err = sockopt.Source(a.remote, a.socket.path)
	}
	return netip.AddrPortFrom(a.chosen, local.Port()), err
}

// giveBack gives back the tuple of a dial that failed, after its socket is closed. A dial that was cut short may have
// connected at the last moment, and closing it then left TIME_WAIT. So giveBack asks the kernel.
func (a *attempt) giveBack(ctx context.Context, held lease, r refusal) {
	connect := isSyscall(r.err, "connect")
	cut := ctx.Err() != nil || isTimeout(r.err) // package net may notice a deadline before ctx does
	switch {
	case r.pending:
		held.abandon()
	case r.of == theSocket || r.of == thePort || r.of == thePolicy:
		held.yield(r.freeIn)
	case cut && !a.udp:
		if s, found := a.inKernel(held.tuple); found {
			held.retire(tuple.ActiveClose, a.settings.untilFree(&s))
			return
		}
		held.end(ending{how: tuple.NeverEstablished})
	case connect && !a.udp:
		held.end(ending{how: tuple.NeverEstablished})
	default:
		held.release()
	}
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}
