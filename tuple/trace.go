package tuple

import (
	"context"
	"errors"
	"net/netip"
	"time"
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

// acquire is serve, traced.
func (p *Pool) acquire(ctx context.Context, r *Request) (Tuple, error) {
	tr := p.Trace
	if tr == nil {
		return p.serve(ctx, r, nil)
	}
	var began time.Time
	t, err := p.serve(ctx, r, func() {
		began = time.Now()
		if tr.WaitStart != nil {
			tr.WaitStart(r.Dst)
		}
	})
	switch {
	case err == nil:
		var waited time.Duration
		if !began.IsZero() {
			waited = time.Since(began)
		}
		tr.acquired(t, waited)
	case tr.Exhausted != nil && (errors.Is(err, ErrExhausted) || errors.Is(err, ErrQuota) || !began.IsZero()):
		tr.Exhausted(r.Dst, err)
	}
	return t, err
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
func (pl *plan) tuple(key dstKey, h hold, t *Tuple) Tuple {
	return Tuple{pl.sources(key).at(h.number()), t.dst, h.port(), t.dstPort}
}
