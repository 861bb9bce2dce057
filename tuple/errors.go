package tuple

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// ErrExhausted is in the error of an acquire for which no tuple was free: errors.Is finds it. The error is an
// *ExhaustedError.
var ErrExhausted = errors.New("no free local port")

// ErrQuota is in the error of an acquire that a quota of the Pool refused: errors.Is finds it. The error is a
// *QuotaError.
var ErrQuota = errors.New("the quota is used up")

// ErrClosed is in the error of an acquire from a Pool that is closed, or that was closed while the acquire waited.
var ErrClosed = errors.New("the pool is closed")

// ErrQueueFull is in the error of an Acquire that could not wait because the line was full (Pool.MaxWaiters), or that
// lost its place to a waiter of another owner. errors.Is finds ErrExhausted or ErrQuota in the same error.
var ErrQueueFull = errors.New("too many are waiting already")

// ExhaustedError is the error of an acquire for which no tuple was free. errors.Is finds ErrExhausted in it, and what
// Err wraps. The counts are of all tuples towards Dst, also of those that the Request did not ask for.
type ExhaustedError struct {
	Dst     netip.AddrPort // the destination asked for
	InUse   int            // tuples in use
	Retired int            // tuples that are cooling down
	Taken   int            // tuples that others have: see Taken
	Next    time.Duration  // how long until the first retired or taken tuple comes free; 0 if none does by itself
	Err     error          // why Acquire stopped waiting: ErrQueueFull or the error of the context; nil for TryAcquire
}

// Error returns one line, such as
//
//	no free local port (towards 198.51.100.7:443: 28232 in use, 10 cooling down, 3 taken, next try in 2.1s)
//
// If Err is not nil, its text comes before the parentheses. What varies from call to call is in the parentheses. Counts
// that are 0 are left out, except that of the tuples in use.
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

// begin writes what stood in the way, and why the acquire did not wait for it, if there is a reason.
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

// Unwrap returns ErrExhausted, and Err if it is not nil.
func (e *ExhaustedError) Unwrap() []error { return withReason(ErrExhausted, e.Err) }

// Timeout reports whether a deadline passed while Acquire waited, as in [net.Error].
func (e *ExhaustedError) Timeout() bool { return isTimeout(e.Err) }

// QuotaError is the error of an acquire that a quota refused. errors.Is finds ErrQuota in it, and what Err wraps.
type QuotaError struct {
	Dst     netip.AddrPort // the destination asked for
	Quota   Quota          // the quota that is used up
	Max     int            // its limit
	Owner   string         // Request.Owner, if the quota is MaxPerOwner
	InUse   int            // tuples in use that count in the quota: of the Pool, towards Dst or of the Owner
	Retired int            // tuples that count in the quota and are cooling down; 0 for MaxPerDestination
	Err     error          // why Acquire stopped waiting: ErrQueueFull or the error of the context; nil for TryAcquire
}

// Error returns one line, such as
//
//	the quota is used up: MaxPerOwner (towards 198.51.100.7:443: at most 5 of owner "a", 4 in use, 1 cooling down)
//
// If Err is not nil, its text comes before the parentheses. What varies from call to call is in the parentheses.
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

// Unwrap returns ErrQuota, and Err if it is not nil.
func (e *QuotaError) Unwrap() []error { return withReason(ErrQuota, e.Err) }

// Timeout reports whether a deadline passed while Acquire waited, as in [net.Error].
func (e *QuotaError) Timeout() bool { return isTimeout(e.Err) }

func withReason(err, reason error) []error {
	if reason == nil {
		return []error{err}
	}
	return []error{err, reason}
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

// checkDst returns an error if dst cannot be a destination.
func checkDst(dst netip.AddrPort) error {
	var why string
	switch {
	case !dst.Addr().IsValid():
		why = "has no address"
	case dst.Addr().Unmap().WithZone("").IsUnspecified():
		why = "is the unspecified address"
	case dst.Port() == 0:
		why = "has port 0"
	default:
		return nil
	}
	return fmt.Errorf("tuple: acquire: the destination %s: want the address and port of a host: %v", why, dst)
}
