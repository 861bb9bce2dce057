package dialer

import (
	"net/netip"
	"sync"
	"time"
)

// pace says when a destination may be compared with the kernel again.
type pace struct {
	looking *sync.Mutex // locked while a comparison is under way; nil if none is
	ended   time.Time   // when the last one ended, and
	rounds  uint64      // the rounds of the ledger at that time
	next    time.Time
}

const (
	// A comparison by a walk of the kernel's tables takes 1.4 ms, and 80 ns for each socket towards the destination. By
	// look-ups it takes 5 µs for each tuple. The pause before the next one is at least fewestApart times as long, so
	// that comparisons use at most a twentieth of a processor.
	fewestApart  = 20
	shortestWait = 100 * time.Microsecond

	// If more than mostPaces destinations have a pace, those whose time is over are forgotten.
	mostPaces = 256
)

// mayLook reports whether the caller may compare dst with the kernel now. If so, it must call looked afterwards. The
// caller had read rounds from the ledger before it found nothing free. news is true if another call has compared since,
// or does so now: that one ends when other can be locked. (A channel would belong to the testing/synctest bubble in
// which it is made.)
func (l *ledger) mayLook(dst netip.AddrPort, now time.Time, rounds uint64) (mine, news bool, other *sync.Mutex) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.paces[dst]
	switch {
	case p.looking != nil:
		return false, true, p.looking
	case p.rounds > rounds:
		return false, true, nil
	case now.Before(p.next) && !p.ended.After(now): // ended after now: by the clock of another bubble
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

// looked sets the pace after a comparison that took that long.
func (l *ledger) looked(dst netip.AddrPort, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.paces[dst]
	p.looking.Unlock()
	p.looking, p.ended, p.rounds = nil, time.Now(), l.rounds.Add(1)
	p.next = p.ended.Add(max(shortestWait, fewestApart*took))
	l.paces[dst] = p
}
