package dialer

import (
	"net/netip"
	"sync"
	"time"
)

// pace is when the account of a destination may be compared with the kernel again.
type pace struct {
	looking *sync.Mutex // locked until the comparison that goes on has ended; nil if none does
	ended   time.Time   // when the last one did, and
	rounds  uint64      // the rounds of the ledger then
	next    time.Time
}

const (
	// A comparison by a walk of the kernel's tables takes 1.4 ms, and 80 ns a socket towards the destination; one by
	// look-ups takes 5 µs for each tuple. At the least, fewestApart times that lies between two, so that they take no
	// more than a twentieth of a processor.
	fewestApart  = 20
	shortestWait = 100 * time.Microsecond

	// mostPaces bounds how many destinations have a pace before those whose time has come are forgotten.
	mostPaces = 256
)

// mayLook reports whether it is the caller's turn to compare the account of dst: then it calls looked. The caller had
// found nothing free after it had read the ledger's rounds. If another call has compared since, there is news; if
// another call is about it, that is once its lock is free. (A channel would not do: it belongs to the
// testing/synctest bubble in which it is made.)
func (l *ledger) mayLook(dst netip.AddrPort, now time.Time, rounds uint64) (mine, news bool, other *sync.Mutex) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.paces[dst]
	switch {
	case p.looking != nil:
		return false, true, p.looking
	case p.rounds > rounds:
		return false, true, nil
	case now.Before(p.next) && !p.ended.After(now): // which would be by the clock of another bubble
		return false, false, nil
	}
	if l.paces == nil {
		l.paces = make(map[netip.AddrPort]pace)
	}
	if len(l.paces) >= mostPaces {
		for other, p := range l.paces {
			if p.looking == nil && p.next.Add(time.Second).Before(now) {
				delete(l.paces, other)
			}
		}
	}
	p.looking = new(sync.Mutex)
	p.looking.Lock()
	l.paces[dst] = p
	return true, false, nil
}

// looked sets the pace after a comparison that took so long.
func (l *ledger) looked(dst netip.AddrPort, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.paces[dst]
	p.looking.Unlock()
	p.looking, p.ended, p.rounds = nil, time.Now(), l.rounds.Add(1)
	p.next = p.ended.Add(max(shortestWait, fewestApart*took))
	l.paces[dst] = p
}
