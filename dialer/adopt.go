package dialer

import (
	"sync"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// Adopted is what Adopt found in the kernel. It is safe for concurrent use, and must not be copied.
type Adopted struct {
	network string
	pool    *tuple.Pool

	mu       sync.Mutex
	reserved map[tuple.Tuple]tuple.Tuple // by the tuple in the pool: the tuple of a socket on it
	retired  int
}

// untilFreed makes a tuple taken until it is freed.
const untilFreed time.Duration = -1

// late is how much longer than it says the kernel may stay in TIME_WAIT. Its timers of more than 32 s have a
// granularity of 4 s with 1,000 ticks a second (kernel/time/timer.c). With 250 it was up to 1.9 s.
const late = 4 * time.Second

// Adopt records in the pool what the kernel already has, so that no dial tries it in vain: what a dead process left,
// what others have, and connections that servers accepted on a port of the pool. Call it at the start, before the first
// dial from the pool. The network is "tcp" or "udp". A nil pool means the HostPool.
//
// A tuple of the pool that has a socket is taken (tuple.Taken) until Update finds that the socket is gone. A tuple that
// is only in TIME_WAIT is taken for as long as the kernel keeps it, and 4 seconds more. Taken tuples count in no quota.
//
// Adopt does no harm later, because it does not change tuples that the pool holds. But a connection of ours that closes
// at that moment may count as taken until Update.
//
// Several sockets can belong to one tuple: from several local addresses in a pool without Sources, or to several
// destinations under a Scope. The tuple is taken until the last of them is gone.
//
// A dial that finds nothing free, or waits, asks the kernel itself and frees what is gone. If err is not nil, the pool
// has not changed. Adopt needs Linux. On other systems the error Is errors.ErrUnsupported. It looks at the network
// namespace of the calling thread.
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

// Update frees the tuples whose sockets are gone, or keeps them taken for as long as TIME_WAIT lasts. It does not look
// for new sockets: call Adopt again for that. Call Update from time to time, for example once a minute, until Reserved
// is 0. If it returns an error, nothing has changed.
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
		if a.pool.State(t) != tuple.Taken { // a dial has asked the kernel meanwhile
			delete(a.reserved, entry)
			continue
		}
		r, found := left[entry]
		if !found {
			lives, err := hasSocket(a.network, t.Src(), t.Dst()) // because a walk may have missed it
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

// Reserved returns how many tuples are taken because they have a socket, as of the last Update.
func (a *Adopted) Reserved() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.reserved)
}

// Retired returns how many tuples were taken so far only because of TIME_WAIT.
func (a *Adopted) Retired() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.retired
}

// remains is what the kernel has on tuples of a pool, by the tuple in the pool.
type remains map[tuple.Tuple]remain

type remain struct {
	tuple tuple.Tuple   // that of one of the sockets
	lives bool          // a socket is not in TIME_WAIT
	rest  time.Duration // until the kernel lets a new connection have the tuple in TIME_WAIT
}

// look adds what the kernel now has on the wanted tuples.
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
				r.lives = true // also in FIN_WAIT_2, which has a timer but may become TIME_WAIT
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
