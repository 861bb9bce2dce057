package dialer

import (
	"net/netip"
	"time"

	"github.com/ephemera-go/ephemera/tuple"
)

// lease is a tuple in use and its pool. The tuple goes back once, after its socket is closed. If pool is nil, no pool
// has the tuple.
type lease struct {
	pool       *tuple.Pool
	tuple      tuple.Tuple
	translated bool // the kernel changed the remote end, and the ledger knows the new one
	onLoopback bool // the socket is bound to lo
}

// ending is how the use of a tuple ended, and what decides how long the kernel keeps the tuple.
type ending struct {
	how           tuple.Ending
	local, remote netip.Addr    // of the connection, in the kernel
	timestamps    bool          // both ends sent TCP timestamps
	rtt           time.Duration // the round-trip time; 0 if it is not known
}

// noticeable is the shortest round-trip time for which LAST-ACK lasts long enough to hinder a new dial.
const noticeable = time.Millisecond

// end gives the tuple back. It cools down for the pool's CoolDown or, if that is zero, for as long as the kernel
// refuses it to a new connection.
func (l lease) end(e ending) {
	d := time.Duration(0)
	switch {
	case e.how == tuple.ActiveClose:
		d = timeWait
		if s := current.Load(); s != nil {
			d = s.timeWaitOf(l.onLoopback || e.local.IsLoopback() || e.remote.IsLoopback(), e.timestamps)
			if !s.diagnoses && s.ranged && s.kernels.Contains(l.tuple.Src().Port()) {
				d = 0 // the kernel cannot be asked when the tuple is free, and the range lane refuses it until then
			}
		}
	case e.how == tuple.PassiveClose && e.rtt >= noticeable:
		d = coarse(e.rtt + e.rtt/4) // LAST-ACK, until the peer has acknowledged our FIN
	}
	l.retire(e.how, d)
}

// retire gives the tuple back. It cools down for the pool's CoolDown of this ending or, if that is zero, for d, after
// which the kernel has let go of it.
func (l lease) retire(how tuple.Ending, d time.Duration) {
	if l.pool == nil {
		return
	}
	l.forget()
	if coolDown(&l.pool.CoolDown, how) != 0 {
		l.pool.RetireAs(l.tuple, how)
	} else {
		pools.RetireForKernel(l.pool, l.tuple, d)
	}
}

// abandon gives back the tuple of a socket that something else closes, at an unknown time.
func (l lease) abandon() { l.retire(tuple.ActiveClose, timeWait) }

// collected gives back the tuple of a UDP socket that the garbage collector closes.
func (l lease) collected() {
	if d := l.pool.CoolDown.Datagram; d > 0 {
		l.pool.Retire(l.tuple, max(d, untilCollected))
	} else {
		l.retire(tuple.Datagram, untilCollected)
	}
}

// release gives the tuple back without a cool-down.
func (l lease) release() {
	if l.pool != nil {
		l.forget()
		l.pool.Release(l.tuple)
	}
}

// yield gives back a tuple that others have. It is taken for d.
func (l lease) yield(d time.Duration) {
	if l.pool != nil {
		l.forget()
		pools.Yield(l.pool, l.tuple, d)
	}
}

func (l lease) forget() {
	if l.translated {
		ledgerOf(l.pool).forget(l.tuple)
	}
}

// coolDown returns the time for an ending; 0 if none is set.
func coolDown(c *tuple.CoolDown, how tuple.Ending) time.Duration {
	switch how {
	case tuple.PassiveClose:
		return c.PassiveClose
	case tuple.Reset:
		return c.Reset
	case tuple.NeverEstablished:
		return c.NeverEstablished
	case tuple.Datagram:
		return c.Datagram
	}
	return c.ActiveClose
}

// reserve takes t into use if it is free. It returns the state that t had.
func reserve(p *tuple.Pool, t tuple.Tuple, owner string) tuple.State {
	for {
		if p.ReserveFor(t, owner) {
			return tuple.Free
		}
		if state := p.State(t); state != tuple.Free { // a free one became free just now: try again
			return state
		}
	}
}
