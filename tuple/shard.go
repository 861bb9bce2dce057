package tuple

import (
	"math"
	"sync"
	"time"
)

// shard is the destinations of one hash value, under one lock: so an acquire takes one lock, and whether a destination has
// a free port at any source is known exactly.
//
// Its methods need mu held. Each operation begins with settle, so that a tuple whose cool-down has passed is free to it.
type shard struct {
	mu      sync.Mutex
	dsts    table[dstKey, *destination]
	cool    cooldown
	inUse   int
	waiting int         // over all destinations
	wake    *time.Timer // set only while somebody waits and something is retired
	_       [64]byte    // two shards never share a cache line
}

// epoch is where the clock of a Pool starts.
var epoch = time.Now()

func now() int64 { return int64(time.Since(epoch)) }

// after returns the time in d, which is positive, from now: the end of time at the latest. The clock of a testing/synctest
// bubble starts before epoch, so now may be negative.
func after(d time.Duration) int64 {
	t := now()
	if until := t + int64(d); until > t {
		return until
	}
	return math.MaxInt64
}

// settle frees what has cooled down and gives it to those who wait for it.
func (sh *shard) settle(pl *plan) {
	if sh.cool.empty() {
		return // without a look at the clock
	}
	for t := now(); ; {
		r, ok := sh.cool.pop(t)
		if !ok {
			return
		}
		r.dst.release(r.src, r.port, true, pl)
		sh.freed(r.dst, pl)
	}
}

// destination returns the destination of key, which it makes if there is none. The caller must take something of it, wait
// for it, or drop it.
func (sh *shard) destination(key dstKey, from *sources) *destination {
	d := sh.dsts.get(key)
	if d == nil {
		d = newDestination(key, from)
		sh.dsts.put(key, d)
	}
	return d
}

func (sh *shard) dropIfIdle(d *destination) {
	if d.idle() {
		sh.dsts.delete(d.key)
		d.free()
	}
}

func (sh *shard) acquire(key dstKey, from *sources, pl *plan) (Tuple, *destination, bool) {
	sh.settle(pl)
	d := sh.destination(key, from)
	t, ok := d.acquire(pl)
	if ok {
		sh.inUse++
	}
	return t, d, ok
}

func (sh *shard) reserve(t Tuple, a addr, number uint64, pl *plan) bool {
	sh.settle(pl)
	d := sh.destination(dstKey{t.dst, t.dstPort}, pl.sources(t.dst))
	ok := d.reserve(a, number, t.srcPort, pl)
	if ok {
		sh.inUse++
	}
	sh.dropIfIdle(d)
	return ok
}

// retire ends the use of t: it is free after delay. It fails if t is not in use.
func (sh *shard) retire(t Tuple, a addr, delay time.Duration, pl *plan) bool {
	sh.settle(pl)
	d, s := sh.find(t, a)
	if s == nil || !s.inUseAt(t.srcPort, pl) {
		return false
	}
	sh.inUse--
	if delay <= 0 {
		d.release(s, t.srcPort, false, pl)
		sh.freed(d, pl)
		return true
	}
	s.retired.Reserve(pl.ports, t.srcPort)
	d.inUse--
	d.retired++
	sh.cool.add(delay, resting{after(delay), d, s, t.srcPort})
	sh.setWake(pl)
	return true
}

func (sh *shard) contains(t Tuple, a addr, pl *plan) bool {
	sh.settle(pl)
	_, s := sh.find(t, a)
	return s != nil && s.held.Contains(pl.ports, t.srcPort)
}

// find returns where t is held from the source a, nil if nothing is held from there.
func (sh *shard) find(t Tuple, a addr) (*destination, *source) {
	d := sh.dsts.get(dstKey{t.dst, t.dstPort})
	if d == nil {
		return nil, nil
	}
	return d, d.find(a)
}

// freed serves those who wait for d, towards which something came free, and drops d if that leaves it idle.
func (sh *shard) freed(d *destination, pl *plan) {
	for d.waiters != nil && d.waiters.Len() > 0 {
		t, ok := d.acquire(pl)
		if !ok {
			return
		}
		sh.inUse++
		sh.leave(d, d.waiters.Front()).got <- t
	}
	sh.dropIfIdle(d)
}

// exhausted is the error for an acquire towards d that found nothing free. It drops d if d is idle.
func (sh *shard) exhausted(d *destination, why error) error {
	err := &ExhaustedError{Dst: d.key.netip(), InUse: d.inUse, Retired: d.retired, Err: why}
	if d.retired > 0 {
		err.Next = time.Duration(max(1, sh.cool.nextOf(d)-now()))
	}
	sh.dropIfIdle(d)
	return err
}
