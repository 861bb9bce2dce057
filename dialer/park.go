package dialer

import (
	"time"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

const (
	// parked is how long a tuple rests that the kernel says is taken, by another process or in TIME_WAIT, before it is
	// tried again, which costs some 20 µs.
	parked = 10 * time.Second

	// lastWord is how long one rests that is about to be free.
	lastWord = 100 * time.Millisecond
)

// park keeps back a tuple that the kernel says is taken. A pool with ReuseRetired would hand it out again at once, and so for
// ever: there it stays in use until the attempt is over.
func (a *attempt) park(l lease) {
	if l.pool != nil && l.pool.ReuseRetired {
		a.aside = append(a.aside, l.tuple)
		return
	}
	l.rest(a.parkFor(l.tuple))
}

// parkFor returns how long to keep back a tuple that the kernel says is taken. Where nothing else is free, it may be one that
// was given back when its peer had closed first: the kernel still waits for the peer's last word, for a round trip as a rule.
// Whoever waits in line gets just that one.
func (a *attempt) parkFor(t tuple.Tuple) time.Duration {
	if a.udp || a.pool.Usage(a.remote).Free > 0 {
		return parked
	}
	local, err := a.localEnd(t)
	if err != nil {
		return parked
	}
	s, found, err := sockdiag.Lookup(sockdiag.TCP, local, a.remote)
	if err == nil && found && s.Inode == 0 && (s.State == sockdiag.LastAck || s.State == sockdiag.Closing) {
		return lastWord
	}
	return parked
}

// parkAside ends what park put aside.
func (a *attempt) parkAside() {
	for _, t := range a.aside {
		lease{a.pool, t}.rest(parked)
	}
	a.aside = nil
}
