package dialer

import (
	"net/netip"
	"time"

	"github.com/ephemera-go/ephemera/tuple"
)

// lease is a tuple in use, and the pool to give it back to: once, after its socket is closed. Without a pool there is
// no account.
type lease struct {
	pool       *tuple.Pool
	tuple      tuple.Tuple
	translated bool // the kernel has another remote end, which the ledger has
	onLoopback bool // the socket is bound to lo
}

// ending is how the use of a tuple ended, and what the kernel makes of that.
type ending struct {
	how           tuple.Ending
	local, remote netip.Addr    // of the connection, as the kernel has them
	timestamps    bool          // both ends sent TCP timestamps
	rtt           time.Duration // the round-trip time; 0 if it is not known
}

// noticeable is the round-trip time from which on LAST-ACK lasts long enough for somebody to meet it.
const noticeable = time.Millisecond

// end gives the tuple back. It cools down for as long as the pool's CoolDown says or, if that says nothing, for as
// long as the kernel keeps it from a new connection.
func (l lease) end(e ending) {
	d := time.Duration(0)
	switch {
	case e.how == tuple.ActiveClose:
		d = timeWait
		if s := current.Load(); s != nil {
			d = s.timeWaitOf(l.onLoopback || e.local.IsLoopback() || e.remote.IsLoopback(), e.timestamps)
			if !s.diagnoses && s.ranged && s.kernels.Contains(l.tuple.Src().Port()) {
				d = 0 // nobody can tell when the kernel has let go of it, and in this lane the kernel refuses it until then
			}
		}
	case e.how == tuple.PassiveClose && e.rtt >= noticeable:
		d = coarse(e.rtt + e.rtt/4) // LAST-ACK, until the peer has acknowledged our FIN
	}
	l.retire(e.how, d)
}

// retire gives the tuple back, free when the kernel has let go of it in d, unless the pool's CoolDown says more of
// how its use ended.
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

// abandon gives back the tuple of a socket that is closed by somebody else, at an unknown time.
func (l lease) abandon() { l.retire(tuple.ActiveClose, timeWait) }

// collected gives back the tuple of a UDP socket that the garbage collector closes.
func (l lease) collected() {
	if d := l.pool.CoolDown.Datagram; d > 0 {
		l.pool.Retire(l.tuple, max(d, untilCollected))
	} else {
		l.retire(tuple.Datagram, untilCollected)
	}
}

// release gives the tuple back, free at once.
func (l lease) release() {
	if l.pool != nil {
		l.forget()
		l.pool.Release(l.tuple)
	}
}

// yield gives back a tuple that others have, for d.
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

// coolDown returns what a CoolDown says of an ending; 0 if nothing.
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

// reserve takes t into use if it is free, and returns how it stood.
func reserve(p *tuple.Pool, t tuple.Tuple, owner string) tuple.State {
	for {
		if p.ReserveFor(t, owner) {
			return tuple.Free
		}
		if state := p.State(t); state != tuple.Free { // else it has come free meanwhile
			return state
		}
	}
}
