package dialer

import (
	"sync"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// Adopted is what Adopt took into use for others. It is safe for concurrent use, and must not be copied.
type Adopted struct {
	network string
	pool    *tuple.Pool

	mu       sync.Mutex
	reserved map[tuple.Tuple]tuple.Tuple // by the pool's entry: the tuple of a socket on it
	retired  int
}

// late is how much longer than it says the kernel may stay in TIME_WAIT: its timers of more than 32 s are that coarse, with
// 1,000 ticks a second (kernel/time/timer.c). With 250 it was up to 1.9 s.
const late = 4 * time.Second

// Adopt enters into the pool what the kernel has there already, so that nobody is given it: what a process left that died, what
// others have, connections that servers accepted on a port of the pool. A tuple of the pool on which there is a socket is
// reserved; one that is in TIME_WAIT only is retired for what is left of that, and 4 seconds more, which the kernel may take.
// The network is "tcp" or "udp". A nil pool is the one of every Dialer that has none for that network.
//
// The time for it is the start, before the first dial from the pool. Later it does no harm: what the pool holds already stays
// as it is. But a connection of ours that closes at that very moment may be reserved for another's, until Update.
//
// In a pool without Sources, sockets from several local addresses may fall on one tuple, and under a Scope those towards
// several destinations: it is held until the last of them is gone.
//
// What is reserved stays so until Update finds that its socket is gone. If err is not nil, nothing has changed. Adopt takes
// Linux: elsewhere the error Is errors.ErrUnsupported. It concerns the calling thread's network namespace.
func Adopt(network string, p *tuple.Pool) (*Adopted, error) {
	p, err := orHost(network, p)
	if err != nil {
		return nil, err
	}
	a := &Adopted{network: network, pool: p, reserved: map[tuple.Tuple]tuple.Tuple{}}
	left := remains{}
	err = left.look(network, p, func(_, t tuple.Tuple) bool { return p.State(t) == tuple.Free })
	if err != nil {
		return nil, err
	}
	for entry, r := range left {
		switch {
		case !p.Reserve(r.tuple):
		case r.lives:
			a.reserved[entry] = r.tuple
		default:
			a.retire(r)
		}
	}
	return a, nil
}

// Update looks which of the sockets that Adopt came upon are gone, and releases their tuples, or retires them if there is
// TIME_WAIT left. It takes in nothing new: that is for another Adopt. Call it now and then, once a minute for instance, until
// Reserved is 0. If it returns an error, nothing has changed.
func (a *Adopted) Update() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.reserved) == 0 {
		return nil
	}
	left := remains{}
	err := left.look(a.network, a.pool, func(entry, _ tuple.Tuple) bool { _, ours := a.reserved[entry]; return ours })
	if err != nil {
		return err
	}
	for entry, t := range a.reserved {
		r, found := left[entry]
		if !found {
			lives, err := hasSocket(a.network, t.Src(), t.Dst()) // which a walk may have missed
			if err != nil || lives {
				continue
			}
		}
		switch {
		case found && r.lives:
			continue
		case found:
			r.tuple = t
			a.retire(r)
		default:
			a.pool.Release(t)
		}
		delete(a.reserved, entry)
	}
	return nil
}

// Reserved returns how many tuples are in use for sockets of others, as of the last Update.
func (a *Adopted) Reserved() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.reserved)
}

// Retired returns how many tuples were retired so far because of TIME_WAIT.
func (a *Adopted) Retired() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.retired
}

func (a *Adopted) retire(r remain) {
	a.pool.Retire(r.tuple, r.rest+late)
	a.retired++
}

// remains is what the kernel has on tuples of a pool, by their entries.
type remains map[tuple.Tuple]remain

type remain struct {
	tuple tuple.Tuple   // of one of the sockets
	lives bool          // one of them is not in TIME_WAIT
	rest  time.Duration // what is left of the longest TIME_WAIT
}

// look adds what the kernel has at present on the tuples that are wanted.
func (left remains) look(network string, p *tuple.Pool, wanted func(entry, t tuple.Tuple) bool) error {
	return walks(network, func() (news bool, err error) {
		before := len(left)
		for s, err := range sockets(network, true) {
			if err != nil {
				return false, err
			}
			e, t := entry(p, end(p, &s)), tuple.From(s.Local, s.Remote)
			if !wanted(e, t) {
				continue
			}
			r := left[e]
			r.tuple = t
			if s.State == sockdiag.TimeWait {
				r.rest = max(r.rest, s.Expires)
			} else {
				r.lives = true // in FIN_WAIT_2 too, which has a timer but may become TIME_WAIT
			}
			left[e] = r
		}
		return len(left) > before, nil
	})
}
