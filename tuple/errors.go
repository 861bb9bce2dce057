package tuple

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// ErrExhausted is what errors.Is finds in the error of an acquire for which no tuple was free, whatever else went
// wrong.
var ErrExhausted = errors.New("no free local port")

// ErrQuota is what errors.Is finds in the error of an acquire that a quota of the Pool stood in the way of, whatever
// else went wrong.
var ErrQuota = errors.New("the quota is used up")

// ErrClosed is what errors.Is finds in the error of an acquire from a Pool that is closed, or was while it waited.
var ErrClosed = errors.New("the pool is closed")

// ErrQueueFull is what errors.Is finds, beside ErrExhausted or ErrQuota, in the error of an Acquire that was not let
// in to wait because MaxWaiters others were waiting already, or that made room for one of an owner with fewer.
var ErrQueueFull = errors.New("too many are waiting already")

// ExhaustedError is the error of an acquire for which no tuple was free: errors.Is finds ErrExhausted in it, and what
// Err wraps.
type ExhaustedError struct {
	Dst     netip.AddrPort // the destination asked for
	InUse   int            // tuples in use towards Dst
	Retired int            // tuples towards Dst that are cooling down
	Taken   int            // tuples towards Dst that are taken: see State
	Next    time.Duration  // how long until the first of the retired or taken is worth another try; 0 if none has a time
	Err     error          // why it did not wait (any longer): ErrQueueFull or the context's error; nil for TryAcquire
}

// Error returns a text such as
//
//	no free local port: context deadline exceeded (towards 198.51.100.7:443: 28232 in use, 10 cooling down, 3 taken, next try in 2.1s)
//
// What varies from call to call stands in the parentheses, at the end. Counts other than that of the tuples in use
// are left out if they are 0.
func (e *ExhaustedError) Error() string {
	b := new(strings.Builder)
	begin(b, ErrExhausted.Error(), e.Err)
	b.WriteString(" (")
	if e.Dst.IsValid() {
		fmt.Fprintf(b, "towards %v: ", e.Dst)
	}
	count(b, e.InUse, e.Retired)
	if e.Taken > 0 {
		fmt.Fprintf(b, ", %d taken", e.Taken)
	}
	if e.Next > 0 {
		unit := time.Millisecond
		if e.Next >= time.Second {
			unit *= 100
		}
		fmt.Fprintf(b, ", next try in %v", max(e.Next.Round(unit), unit))
	}
	b.WriteByte(')')
	return b.String()
}

// begin writes what stood in the way, and why it was not waited for, if there is a reason.
func begin(b *strings.Builder, what string, why error) {
	b.WriteString(what)
	if why != nil {
		fmt.Fprintf(b, ": %v", why)
	}
}

// count writes how many tuples are in use and cooling down.
func count(b *strings.Builder, inUse, retired int) {
	fmt.Fprintf(b, "%d in use", inUse)
	if retired > 0 {
		fmt.Fprintf(b, ", %d cooling down", retired)
	}
}

// Is reports whether target is ErrExhausted.
func (e *ExhaustedError) Is(target error) bool { return target == ErrExhausted }

// Unwrap returns Err.
func (e *ExhaustedError) Unwrap() error { return e.Err }

// Timeout reports whether the error is that of a deadline which passed while waiting, as in [net.Error].
func (e *ExhaustedError) Timeout() bool { return isTimeout(e.Err) }

// QuotaError is the error of an acquire that a quota stood in the way of: errors.Is finds ErrQuota in it, and what
// Err wraps.
type QuotaError struct {
	Dst     netip.AddrPort // the destination asked for
	Quota   Quota          // which one
	Max     int            // and what it is
	Owner   string         // whose tuples they are, if it is MaxPerOwner
	InUse   int            // tuples in use that count in the quota: of the Owner, of the Pool or towards Dst
	Retired int            // tuples that count in it and are cooling down
	Err     error          // why it did not wait (any longer): ErrQueueFull or the context's error; nil for TryAcquire
}

// Error returns a text such as
//
//	the quota is used up: MaxPerOwner: context deadline exceeded (towards 198.51.100.7:443: at most 5 of owner "a", 4 in use, 1 cooling down)
//
// What varies from call to call stands in the parentheses, at the end.
func (e *QuotaError) Error() string {
	b := new(strings.Builder)
	begin(b, ErrQuota.Error()+": "+e.Quota.String(), e.Err)
	b.WriteString(" (")
	if e.Dst.IsValid() {
		fmt.Fprintf(b, "towards %v: ", e.Dst)
	}
	fmt.Fprintf(b, "at most %d", e.Max)
	if e.Quota == QuotaPerOwner {
		fmt.Fprintf(b, " of owner %q", e.Owner)
	}
	b.WriteString(", ")
	count(b, e.InUse, e.Retired)
	b.WriteByte(')')
	return b.String()
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
