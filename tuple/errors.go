package tuple

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// ErrExhausted is what errors.Is finds in the error of an acquire for which no tuple was free, whatever else went wrong.
var ErrExhausted = errors.New("no free local port")

// ErrQuota is what errors.Is finds in the error of an acquire that a quota of the Pool stood in the way of, whatever else went
// wrong.
var ErrQuota = errors.New("the quota is used up")

// ErrClosed is what errors.Is finds in the error of an acquire from a Pool that is closed, or was while it waited.
var ErrClosed = errors.New("the pool is closed")

// ErrQueueFull is what errors.Is finds, beside ErrExhausted or ErrQuota, in the error of an Acquire that was not let in to wait
// because MaxWaiters others were waiting already, or that made room for one of an owner with fewer.
var ErrQueueFull = errors.New("too many are waiting already")

// ExhaustedError is the error of an acquire for which no tuple was free: errors.Is finds ErrExhausted in it, and what Err
// wraps.
type ExhaustedError struct {
	Dst     netip.AddrPort // the destination asked for
	InUse   int            // tuples in use towards Dst
	Retired int            // tuples towards Dst that are cooling down
	Next    time.Duration  // how long until the first of the retired is free; 0 if none is retired
	Err     error          // why it did not wait (any longer): ErrQueueFull or the context's error; nil for TryAcquire
}

// Error says what was asked and what stood in the way.
func (e *ExhaustedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v towards %v (%d in use, %d cooling down", ErrExhausted, e.Dst, e.InUse, e.Retired)
	if e.Retired > 0 {
		unit := time.Millisecond
		if e.Next >= time.Second {
			unit *= 100
		}
		fmt.Fprintf(&b, ", the first of them free in %v", max(e.Next.Round(unit), unit))
	}
	b.WriteByte(')')
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Is reports whether target is ErrExhausted.
func (e *ExhaustedError) Is(target error) bool { return target == ErrExhausted }

// Unwrap returns Err.
func (e *ExhaustedError) Unwrap() error { return e.Err }

// Timeout reports whether the error is that of a deadline which passed while waiting, as in [net.Error].
func (e *ExhaustedError) Timeout() bool { return isTimeout(e.Err) }

// QuotaError is the error of an acquire that a quota stood in the way of: errors.Is finds ErrQuota in it, and what Err wraps.
type QuotaError struct {
	Dst   netip.AddrPort // the destination asked for
	Quota string         // the field of Pool that says so: MaxPerOwner, MaxTuples or MaxPerDestination
	Max   int            // and what it is
	Owner string         // whose tuples they are, if it is MaxPerOwner
	Err   error          // why it did not wait (any longer): ErrQueueFull or the context's error; nil for TryAcquire
}

// Error says what was asked and what stood in the way.
func (e *QuotaError) Error() string {
	of := ""
	if e.Quota == "MaxPerOwner" {
		of = fmt.Sprintf(" of owner %q", e.Owner)
	}
	s := fmt.Sprintf("%v towards %v (%s%s is %d)", ErrQuota, e.Dst, e.Quota, of, e.Max)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is reports whether target is ErrQuota.
func (e *QuotaError) Is(target error) bool { return target == ErrQuota }

// Unwrap returns Err.
func (e *QuotaError) Unwrap() error { return e.Err }

// Timeout reports whether the error is that of a deadline which passed while waiting, as in [net.Error].
func (e *QuotaError) Timeout() bool { return isTimeout(e.Err) }

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

// checkDst says what keeps dst from being a destination, if anything does.
func checkDst(dst netip.AddrPort) error {
	var why string
	switch {
	case !dst.Addr().IsValid():
		why = "it has no address"
	case dst.Addr().Unmap().WithZone("").IsUnspecified():
		why = "the unspecified address is that of no host"
	case dst.Port() == 0:
		why = "0 names no port"
	default:
		return nil
	}
	return fmt.Errorf("tuple: no destination %v: %s", dst, why)
}
