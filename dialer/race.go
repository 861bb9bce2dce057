package dialer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	fallbackDelay = 300 * time.Millisecond // net.Dialer's default
	leastShare    = 2 * time.Second        // the least part of a timeout for one of several addresses
)

// outcome is how a series of attempts ended.
type outcome struct {
	conn    net.Conn // a bare connection with a Tracker, else a *TCPConn or a *UDPConn
	err     error
	usedUp  []netip.AddrPort // the addresses towards which the pool had no tuple
	primary bool
}

// dialName connects to the first address of a name that answers. It tries all of them before it waits for a tuple
// towards those for which the pool had none. It has its own copy of the call, because the race keeps it: the call for a
// literal address then need not be allocated.
func (c call) dialName(ctx context.Context, address string) outcome {
	addrs, err := c.resolve(ctx, address)
	if errors.Is(err, errPortZero) || errors.Is(err, errMissing) {
		return c.leaveToNet(ctx, address)
	}
	if err != nil {
		return outcome{err: c.opError(netip.AddrPort{}, err)}
	}
	c.mayWait = len(addrs) == 1
	r := c.race(ctx, addrs)
	if r.err != nil && len(r.usedUp) > 0 && c.d.Wait != 0 && !c.mayWait {
		c.mayWait = true
		again := slices.DeleteFunc(addrs, func(a netip.AddrPort) bool { return !slices.Contains(r.usedUp, a) })
		r = c.race(ctx, again)
	}
	return r
}

// leaveToNet lets net.Dialer dial port 0, and make the error for a missing address. The kernel connects UDP to port 0,
// and says what is wrong with TCP.
func (c *call) leaveToNet(ctx context.Context, address string) (r outcome) {
	nd := *c.nd
	if c.local.Addr().IsValid() || c.local.Port() != 0 {
		nd.LocalAddr = c.netAddr(c.local)
	}
	conn, err := nd.DialContext(ctx, c.network, address)
	if err != nil {
		return outcome{err: err}
	}
	if c.tracker != nil {
		return outcome{conn: conn}
	}
	return outcome{conn: wrap(conn, lease{})}
}

// race connects to the first of addrs that answers. It tries the addresses with the family of the first one in turn. If
// that takes longer than FallbackDelay, it tries the others at the same time.
func (c *call) race(ctx context.Context, addrs []netip.AddrPort) outcome {
	primaries, fallbacks := addrs, []netip.AddrPort(nil)
	if len(addrs) > 1 && c.network == "tcp" && c.nd.FallbackDelay >= 0 {
		primaries, fallbacks = partition(addrs)
	}
	if len(fallbacks) == 0 {
		return c.series(ctx, primaries)
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	returned := make(chan struct{})
	defer close(returned)
	results := make(chan outcome)
	start := func(addrs []netip.AddrPort, primary bool) {
		r := outcome{err: c.opError(addrs[0], errExited)}
		defer func() {
			r.primary = primary
			select {
			case results <- r:
			case <-returned:
				if r.conn != nil {
					r.conn.Close()
				}
			}
		}()
		r = c.series(ctx, addrs)
	}

	delay := c.nd.FallbackDelay
	if delay == 0 {
		delay = fallbackDelay
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	go start(primaries, true)
	var first *outcome // the first to fail
	for {
		select {
		case <-timer.C:
			go start(fallbacks, false)
		case r := <-results:
			if _, panicked := r.err.(controlPanic); r.err == nil || panicked {
				return r
			}
			if first != nil {
				r.usedUp = append(first.usedUp, r.usedUp...)
				if !r.primary {
					r.err = first.err // the primary's error tells more
				}
				return r
			}
			first = &r
			if r.primary && timer.Stop() {
				timer.Reset(0)
			}
		}
	}
}

// finish returns the result. If the caller's Control panicked, it panics in the goroutine of the caller.
func (r outcome) finish() (net.Conn, error) {
	if p, ok := r.err.(controlPanic); ok {
		panic(p.value)
	}
	return r.conn, r.err
}

// partition splits addrs into those with the family of the first one, and the others.
func partition(addrs []netip.AddrPort) (primaries, fallbacks []netip.AddrPort) {
	for _, a := range addrs {
		if a.Addr().Is4() == addrs[0].Addr().Is4() {
			primaries = append(primaries, a)
		} else {
			fallbacks = append(fallbacks, a)
		}
	}
	return primaries, fallbacks
}

// series tries addrs in turn, each with its share of the time that is left. If none answers, it returns the error of
// the first one.
func (c *call) series(ctx context.Context, addrs []netip.AddrPort) (r outcome) {
	for i, addr := range addrs {
		conn, err := c.within(ctx, addr, len(addrs)-i)
		if _, panicked := err.(controlPanic); err == nil || panicked {
			return outcome{conn: conn, err: err}
		}
		if r.err == nil {
			r.err = err
		}
		if _, usedUp := errors.AsType[usedUpError](err); usedUp {
			r.usedUp = append(r.usedUp, addr)
		}
	}
	return r
}

// within makes one attempt. It has a share of the time that ctx leaves: an nth, and at least leastShare.
func (c *call) within(ctx context.Context, addr netip.AddrPort, n int) (net.Conn, error) {
	if ctx.Err() != nil {
		return nil, c.opError(addr, ended(ctx))
	}
	if deadline, ok := ctx.Deadline(); ok && n > 1 {
		left := time.Until(deadline)
		share := min(max(left/time.Duration(n), leastShare), left)
		shared, cancel := context.WithTimeout(ctx, share)
		defer cancel()
		ctx = shared
	}
	return c.dialOnce(ctx, addr)
}
