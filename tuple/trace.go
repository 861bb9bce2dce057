package tuple

import (
	"net/netip"
	"time"

	"github.com/ephemera-go/ephemera/internal/held"
)

// Trace is a set of hooks to run when something happens to the tuples of a Pool. Any particular hook may be nil.
//
// Hooks run in the goroutine of the call that they tell of, before it returns and under no lock, so they may use the
// Pool. They may be called concurrently, and not in the order in which things happened: a tuple may be Acquired by
// whoever waited for it before the hook Released of the call that gave it back is called. One that panics leaves held
// what the call held.
//
// Not everything is a call: a tuple whose cool-down has passed is free without a hook, and SetSources runs none.
type Trace struct {
	// WaitStart is called when an Acquire or AcquireFor begins to wait in line. Acquired or Exhausted follows.
	WaitStart func(dst netip.AddrPort)

	// Acquired is called when a tuple was taken into use, by an acquire or by Reserve, after a wait of so long. Without
	// a wait that is 0.
	Acquired func(t Tuple, waited time.Duration)

	// Exhausted is called when an acquire fails for want of a free tuple, or over a quota: err, which the call returns, Is
	// ErrExhausted or ErrQuota. If the Pool was closed while it waited, err Is ErrClosed.
	Exhausted func(dst netip.AddrPort, err error)

	// Retired is called when a tuple was retired, for so long.
	Retired func(t Tuple, d time.Duration)

	// Released is called when a tuple was released, or retired for no time at all, or turned out to be taken.
	Released func(t Tuple)
}

func (tr *Trace) acquired(t Tuple, waited time.Duration) {
	if tr.Acquired != nil {
		tr.Acquired(t, waited)
	}
}

// ended tells that the use of t has.
func (tr *Trace) ended(t Tuple, d time.Duration) {
	switch {
	case d > 0 && tr.Retired != nil:
		tr.Retired(t, d)
	case d <= 0 && tr.Released != nil:
		tr.Released(t)
	}
}

// tuple returns t, which is h in the space key, as the Pool hands it out: without Sources, any source address named it.
func (pl *plan) tuple(key held.Key, h held.Hold, t *Tuple) Tuple {
	return Tuple{pl.Sources(key).At(h.Number()), t.dst, h.Port(), t.dstPort}
}
