package dialer

import (
	"sync"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// Adopted is what Adopt found to be taken. It is safe for concurrent use, and must not be copied.
type Adopted struct {
	network string
	pool    *tuple.Pool

	mu       sync.Mutex
	reserved map[tuple.Tuple]tuple.Tuple // by the pool's entry: the tuple of a socket on it
	retired  int
}

// untilFreed is how long what somebody has stays taken: until it is freed.
const untilFreed time.Duration = -1

// late is how much longer than it says the kernel may stay in TIME_WAIT: its timers of more than 32 s are that
// coarse, with 1,000 ticks a second (kernel/time/timer.c). With 250 it was up to 1.9 s.
const late = 4 * time.Second

// Adopt enters into the pool what the kernel has already, so that no dial tries it in vain: what a process left that
// died, what others have, connections that servers accepted on a port of the pool. A tuple of the pool on which there
// is a socket is taken (tuple.Taken) until Update finds that it is gone. One that is in TIME_WAIT only is taken for
// as long as the kernel keeps it, and up to 4 seconds more. Taken tuples use up no quota. The network is "tcp" or
// "udp". A nil pool means the HostPool.
//
// The time for it is the start, before the first dial from the pool. Later it does no harm, because what the pool
// holds stays as it is. But a connection of ours that closes at that very moment may count as taken, until Update.
//
// In a pool without Sources, sockets from several local addresses may fall on one tuple, and under a Scope those
// towards several destinations. It is taken until the last of them is gone.
//
// A dial that finds nothing free asks the kernel itself, and frees what is gone; so does a dial that waits. If err is
// not nil, nothing has changed. Adopt needs Linux: elsewhere the error Is errors.ErrUnsupported. It concerns the
// calling thread's network namespace.
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
		if r.lives {
			r.rest = untilFreed
		}
		switch {
		case !pools.Take(p, r.tuple, r.rest):
		case r.lives:
			a.reserved[entry] = r.tuple
		default:
			a.retired++
		}
	}
	return a, nil
}

// Update frees the tuples whose sockets are gone, or takes them for as long as TIME_WAIT lasts. It takes in nothing
// new: that is for another Adopt. Call it now and then, once a minute for instance, until Reserved is 0. If it
// returns an error, nothing has changed.
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
		if a.pool.State(t) != tuple.Taken { // a dial that found nothing free has asked the kernel
			delete(a.reserved, entry)
			continue
		}
		r, found := left[entry]
		if !found {
			lives, err := hasSocket(a.network, t.Src(), t.Dst()) // which a walk may have missed
			if err != nil || lives {
				continue
			}
		}
		if found && r.lives {
			continue
		}
		pools.Free(a.pool, t)
		if found && pools.Take(a.pool, t, r.rest) {
			a.retired++
		}
		delete(a.reserved, entry)
	}
	return nil
}

// Reserved returns how many tuples are taken because of a socket, as of the last Update.
func (a *Adopted) Reserved() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.reserved)
}

// Retired returns how many tuples were taken so far because of TIME_WAIT alone.
func (a *Adopted) Retired() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.retired
}

// remains is what the kernel has on tuples of a pool, by their entries.
type remains map[tuple.Tuple]remain

type remain struct {
	tuple tuple.Tuple   // of one of the sockets
	lives bool          // one of them is not in TIME_WAIT
	rest  time.Duration // until the kernel lets a new connection have what is in TIME_WAIT
}

// look adds what the kernel has at present on the tuples that are wanted.
func (left remains) look(network string, p *tuple.Pool, wanted func(entry, t tuple.Tuple) bool) error {
	settings := currentSettings()
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
			switch {
			case s.State != sockdiag.TimeWait:
				r.lives = true // in FIN_WAIT_2 too, which has a timer but may become TIME_WAIT
			case settings.reuses(&s):
				continue
			default:
				r.rest = max(r.rest, min(settings.untilFree(&s), s.Expires)+late)
			}
			left[e] = r
		}
		return len(left) > before, nil
	})
}
