package dialer

import (
	"context"
	"time"

	"github.com/ephemera-go/ephemera/tuple"
)

// acquire takes a tuple for the attempt into use. If none is free it waits, for as long as Wait and ctx allow.
func (a *attempt) acquire(ctx context.Context) (tuple.Tuple, error) {
	request := tuple.Request{Dst: a.remote, Src: a.source, Owner: a.Owner}
	t, err := a.pool.TryAcquireFor(request)
	if isUsedUp(err) && a.Wait != 0 {
		if a.Wait > 0 {
			if a.until.IsZero() {
				a.until = time.Now().Add(a.Wait)
			}
			waiting, cancel := context.WithDeadline(ctx, a.until)
			defer cancel()
			ctx = waiting
		}
		before := err
		t, err = a.wait(ctx, request)
		if err != nil && !isUsedUp(err) && ctx.Err() != nil {
			err = withReason(before, ctx.Err()) // it had ended before the wait began
		}
	}
	if isUsedUp(err) {
		err = usedUpError{err}
	}
	return t, err
}

// wait takes a tuple as soon as there is one. What was set aside meanwhile is worth another try after a while.
func (a *attempt) wait(ctx context.Context, r tuple.Request) (tuple.Tuple, error) {
	for len(a.aside) > 0 {
		short, cancel := context.WithTimeout(ctx, parked)
		t, err := a.pool.AcquireFor(short, r)
		cancel()
		if err == nil || ctx.Err() != nil || short.Err() == nil {
			return t, err
		}
		a.parkAside()
		if t, err := a.pool.TryAcquireFor(r); !isUsedUp(err) {
			return t, err
		}
	}
	return a.pool.AcquireFor(ctx, r)
}
