package tuple

import "time"

// refused returns the error of an acquire that found nothing for a. The reason is why it stopped waiting, nil for
// TryAcquire.
func (sh *shard) refused(a *ask, reason error) error {
	pl, dst, c := sh.plan.Load(), a.dst(), sh.held.Find(a.Key, a.Hash).Counts()
	if q := pl.quota; q != nil {
		switch which := q.stops(a.Owner); which {
		case QuotaPerOwner:
			o := q.owners.Get(a.Owner)
			return &QuotaError{
				Dst: dst, Quota: which, Max: q.perOwner, Owner: a.Owner,
				InUse: o.held - o.retired, Retired: o.retired, Err: reason,
			}
		case QuotaTuples:
			return &QuotaError{
				Dst: dst, Quota: which, Max: q.max,
				InUse: q.held - q.retiredCount, Retired: q.retiredCount, Err: reason,
			}
		}
	}
	if !pl.mayUse(c.InUse) {
		return &QuotaError{Dst: dst, Quota: QuotaPerDestination, Max: pl.maxPerDst, InUse: c.InUse, Err: reason}
	}
	err := &ExhaustedError{Dst: dst, InUse: c.InUse, Retired: c.Retired, Taken: c.Taken, Err: reason}
	if c.Retired+c.Taken > 0 {
		if next := sh.comesFree(a.Key); next != never {
			err.Next = time.Duration(max(1, next-now()))
		}
	}
	return err
}
