package dialer

import (
	"context"
	"errors"
	"time"

	"github.com/ephemera-go/ephemera/tuple"
)

// acquire takes a tuple for the attempt into use. If none is free, it compares the pool with the kernel. Then, if the
// attempt may wait, it waits for as long as Wait and ctx allow.
func (a *attempt) acquire(ctx context.Context) (tuple.Tuple, error) {
	request := tuple.Request{Dst: a.remote, Src: a.source, Owner: a.d.Owner}
	rounds := ledgerOf(a.pool).rounds.Load()
	t, err := a.pool.TryAcquireFor(request)
	if isUsedUp(err) && a.reconcile(freeOnly, rounds) {
		t, err = a.pool.TryAcquireFor(request)
	}
	if isUsedUp(err) && ledgerOf(a.pool).relisten(a.pool, a.transport()) {
		t, err = a.pool.TryAcquireFor(request)
	}
	if isUsedUp(err) && a.mayWait && a.d.Wait != 0 {
		t, err = a.wait(ctx, request, err)
	}
	if errors.Is(err, tuple.ErrClosed) {
		return t, tuple.ErrClosed // without the address, which the net.OpError has
	}
	if isUsedUp(err) {
		u := a.pool.Usage(a.remote)
		if errors.Is(err, tuple.ErrExhausted) && u.InUse == 0 && u.Retired == 0 && u.Taken > 0 {
			if forbidden := ledgerOf(a.pool).forbids(); forbidden != nil {
				return t, forbidden // others have every port that the process may bind, if there is one
			}
		}
		err = usedUpError{err}
	}
	return t, err
}

// wait takes a tuple into use as soon as one is free. The error before says why it had to wait.
func (a *attempt) wait(ctx context.Context, r tuple.Request, before error) (tuple.Tuple, error) {
	outer := ctx
	if a.d.Wait > 0 {
		if a.until.IsZero() {
			a.until = time.Now().Add(a.d.Wait)
		}
		waiting, cancel := context.WithDeadline(ctx, a.until)
		defer cancel()
		ctx = waiting
	}
	defer a.keepReconciling()()
	t, err := a.pool.AcquireFor(ctx, r)
	if err != nil && !isUsedUp(err) && ctx.Err() != nil {
		err = withReason(before, ctx.Err()) // ctx had ended before the wait began
	}
	if isUsedUp(err) && a.d.Wait > 0 && outer.Err() == nil {
		err = withReason(err, errWaited)
	}
	return t, err
}
