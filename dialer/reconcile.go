package dialer

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// reconciling says what a comparison does in addition to freeing what the kernel no longer holds.
type reconciling bool

const (
	freeOnly reconciling = false
	takeAll  reconciling = true // also takes what others hold
)

// reconcile compares the attempt's destination with the kernel, unless that was done a short while ago. What the kernel
// no longer holds becomes free: a tuple without TIME_WAIT because the peer had closed first, one that others had, one
// that was refused. rounds is that of the ledger before the caller found nothing free. reconcile reports whether
// something may be free now, because it freed something or another call has compared since.
func (a *attempt) reconcile(also reconciling, rounds uint64) (news bool) {
	l, dst, began := ledgerOf(a.pool), a.remote, time.Now()
	if a.pool.Scope != nil {
		dst = a.pool.Scope(dst)
	}
	mine, news, other := l.mayLook(dst, began, rounds)
	if other != nil {
		other.Lock() // waits until that comparison has ended
		//lint:ignore SA2001 it only waits
		other.Unlock()
	}
	if !mine {
		return news
	}
	defer func() { l.looked(dst, time.Since(began)) }()
	var few []tuple.Tuple
	if also == freeOnly {
		few = a.fewHeld(dst)
	}
	var v *view
	var err error
	if few != nil {
		v = a.lookUp(l, few)
	} else if v, err = a.look(l, dst); err != nil {
		return false
	}
	news = pools.FreeUnless(a.pool, dst, time.Since(began), v.holds) > 0
	if also == takeAll {
		v.takeAll(a.pool)
	}
	return news
}

// view is what the kernel has towards one destination.
type view struct {
	held   map[tuple.Tuple]time.Duration // by the tuple in the pool: how long until another try
	barred map[uint16]bool               // ports that a policy forbids now
}

func (v *view) holds(t tuple.Tuple) bool {
	_, held := v.held[t]
	return held || v.barred[t.Src().Port()]
}

// takeAll makes the tuples taken that others hold and the pool has as free.
func (v *view) takeAll(p *tuple.Pool) {
	for t, until := range v.held {
		pools.Take(p, t, until)
	}
}

// mostLookUps is how many tuples are looked up one by one. For that many it is faster than a walk of the kernel's
// tables.
const mostLookUps = 32

// fewHeld returns the tuples towards dst that the kernel may have let go of. It returns nil if they are many, or if
// only a walk finds them.
func (a *attempt) fewHeld(dst netip.AddrPort) []tuple.Tuple {
	u := a.pool.Usage(a.remote)
	if a.udp || a.pool.Scope != nil || !a.settings.diagnoses || u.Retired+u.Taken > mostLookUps {
		return nil
	}
	few := make([]tuple.Tuple, 0, mostLookUps)
	pools.FreeUnless(a.pool, dst, 0, func(t tuple.Tuple) bool { few = append(few, t); return true })
	return few
}

// lookUp asks the kernel for each of these tuples.
func (a *attempt) lookUp(l *ledger, tuples []tuple.Tuple) *view {
	v := &view{held: map[tuple.Tuple]time.Duration{}, barred: l.barred()}
	for _, t := range tuples {
		if s, found := a.inKernel(t); found && !a.settings.reuses(&s) {
			v.held[t] = a.settings.untilFree(&s)
		}
	}
	return v
}

// look asks the kernel for all sockets towards dst. Under a Scope that is several destinations. A walk may miss a
// socket that just changes to TIME_WAIT. The kernel then refuses its tuple again.
func (a *attempt) look(l *ledger, dst netip.AddrPort) (*view, error) {
	v := &view{held: map[tuple.Tuple]time.Duration{}, barred: l.barred()}
	q := sockdiag.Query{States: connectedStates}
	if a.udp {
		q.Protocol, q.States = sockdiag.UDP, sockdiag.StatesOf(sockdiag.Established)
	}
	ways := l.ways(a.remote)
	for _, remote := range ways {
		if a.pool.Scope == nil {
			q.Remote = sockdiag.At(remote)
		}
		for s, err := range q.All() {
			if err != nil {
				return nil, err
			}
			if a.settings.reuses(&s) {
				continue
			}
			until := a.settings.untilFree(&s)
			if slices.Contains(ways, s.Remote) {
				s.Remote = a.remote
			}
			if e := end(a.pool, &s); e.Dst() == dst {
				v.held[entry(a.pool, e)] = max(v.held[entry(a.pool, e)], until)
			}
		}
		if a.pool.Scope != nil {
			break // the query had no remote end, so it found all sockets
		}
	}
	return v, nil
}

// A waiting dial compares its destination again after firstWait, then after twice that time and so on, up to lastWait.
const firstWait, lastWait = 50 * time.Millisecond, time.Second

// keepReconciling compares the destination again and again until stop is called. Tuples that the kernel lets go of
// sooner than expected go to the dials that wait.
func (a *attempt) keepReconciling() (stop func()) {
	of := &attempt{call: a.call, remote: a.remote, settings: a.settings} // a itself changes after stop
	var mu sync.Mutex
	wait := firstWait
	var timer *time.Timer // nil after stop
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(wait, func() {
		of.settings = currentSettings()
		of.reconcile(freeOnly, ledgerOf(of.pool).rounds.Load())
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			wait = min(2*wait, lastWait)
			timer.Reset(wait)
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		timer.Stop()
		timer = nil
	}
}
