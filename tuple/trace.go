package tuple

import (
	"net/netip"
	"time"

	"github.com/ephemera-go/ephemera/internal/held"
)

// Trace is a set of hooks that run when something happens to the tuples of a Pool. Each hook may be nil. Hooks must be
// safe for concurrent use.
//
// A hook runs in the goroutine of the call that causes it, before that call returns. It runs under no lock, so it may
// use the Pool. Hooks of different calls may run in another order than the events: a waiter's Acquired may run before
// the Released of the call that freed the tuple. If Acquired panics, the tuple stays in use. If WaitStart panics, the
// call leaves the line and holds nothing.
//
// Some events have no hook: a tuple that has cooled down becomes free without one, and SetSources runs none.
type Trace struct {
	// WaitStart runs when Acquire or AcquireFor begins to wait. Acquired or Exhausted follows.
	WaitStart func(dst netip.AddrPort)

	// Acquired runs when an acquire or Reserve took a tuple into use. waited is how long it waited, 0 if it did not.
	Acquired func(t Tuple, waited time.Duration)

	// Exhausted runs when an acquire fails because no tuple was free or a quota was used up. err is the error of the
	// call: errors.Is finds ErrExhausted or ErrQuota in it. If the Pool was closed while the call waited, it finds
	// ErrClosed.
	Exhausted func(dst netip.AddrPort, err error)

	// Retired runs when a tuple was retired. d is its cool-down, greater than 0.
	Retired func(t Tuple, d time.Duration)

	// Released runs when a tuple was released, retired with a d of 0 or less, or found to be taken.
	Released func(t Tuple)
}

func (tr *Trace) acquired(t Tuple, waited time.Duration) {
	if tr.Acquired != nil {
		tr.Acquired(t, waited)
	}
}

// ended runs the hook for the end of a use of t.
func (tr *Trace) ended(t Tuple, d time.Duration) {
	switch {
	case d > 0 && tr.Retired != nil:
		tr.Retired(t, d)
	case d <= 0 && tr.Released != nil:
		tr.Released(t)
	}
}

// tuple returns t, which is h in the space key, as the Pool hands it out. Without Sources t may have any source
// address.
func (pl *plan) tuple(key held.Key, h held.Hold, t *Tuple) Tuple {
	return Tuple{pl.Sources(key).At(h.Number()), t.dst, h.Port(), t.dstPort}
}
