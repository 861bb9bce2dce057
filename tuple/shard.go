package tuple

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// shard is the destinations of one hash value, under one lock: so an acquire takes one lock, and whether a
// destination has a free port at any source is known exactly.
//
// Its methods need mu held, except has. Each operation begins with settle, so that a tuple whose cool-down has passed
// is free to it.
//
// What every operation writes, the lock and the counts, begins a cache line, what most of them only read lies in
// others, and no two shards share one: two cores that take turns wait for each line that both write.
type shard struct {
	v4   entries
	due  atomic.Int64 // when the first of the retired or taken comes free; never if none does
	plan atomic.Pointer[plan]
	_    [cacheLine - (entriesSize+8+unsafe.Sizeof(uintptr(0)))%cacheLine]byte
	v6   entries
	_    [cacheLine - entriesSize%cacheLine]byte

	mu      sync.Mutex
	inUse   int
	waiting int         // over all destinations
	wake    *time.Timer // set only while somebody waits and something comes free by itself
	cool    cooldown
	flows   shrinking[class, *flow]  // who waits
	owned   shrinking[owned, *owner] // whose the tuples are, if there is a MaxPerOwner
	_       [cacheLine - (countsSize+cooldownSize+2*mapSize)%cacheLine]byte
}

const (
	cacheLine    = 64
	entriesSize  = unsafe.Sizeof(entries{})
	countsSize   = unsafe.Sizeof(sync.Mutex{}) + 3*unsafe.Sizeof(0) // with wake, a word
	cooldownSize = unsafe.Sizeof(cooldown{})
	mapSize      = unsafe.Sizeof(shrinking[int, int]{})
)

// epoch is where the clock of a Pool starts.
var epoch = time.Now()

// never is the end of time: what is taken without a time comes free then.
const never = math.MaxInt64

func now() int64 { return int64(time.Since(epoch)) }

// after returns the time in d, which is positive, from now: the instant before never at the latest. The clock of a
// testing/synctest bubble starts before epoch, so now may be negative.
func after(d time.Duration) int64 {
	t := now()
	if until := t + int64(d); until > t {
		return until
	}
	return never - 1
}

// entries returns the destinations of the family of key.
func (sh *shard) entries(key dstKey) *entries {
	if key.is6() {
		return &sh.v6
	}
	return &sh.v4
}

// settle frees what has cooled down and gives it to those who wait for it.
func (sh *shard) settle(pl *plan) {
	if sh.due.Load() == never {
		return // without a look at the clock
	}
	t := now()
	for {
		r, ok := sh.cool.pop(t)
		if !ok {
			break
		}
		e := sh.entries(r.key)
		at, _ := e.find(r.key, r.key.hash(e.seed))
		sh.free(at, r.hold, pl)
	}
	sh.setDue()
}

// setDue tells those who read without the lock when to take it.
func (sh *shard) setDue() {
	due := int64(never)
	if !sh.cool.empty() {
		due = sh.cool.next()
	}
	if due != sh.due.Load() {
		sh.due.Store(due)
	}
}

// acquire takes a free tuple towards key. It fails only if none is free.
func (sh *shard) acquire(key dstKey, hash uint64, pl *plan, r uint64) (h hold, ok bool) {
	sh.settle(pl)
	e := sh.entries(key)
	at, found := e.find(key, hash)
	switch d := at.destination(); {
	case d != nil:
		h, ok = d.acquire(pl, r)
	case found:
		if h, ok = at.entry().acquire(pl.sources(key), pl, r); !ok {
			h, ok = e.enlarge(at, pl).acquire(pl, r)
		}
	case pl.lanes:
		from := pl.sources(key)
		number := randomTurn(from)
		h, ok = holdOf(number, from.table(number).Draw(r, pl.rand)), true
		e.add(key, hash, metaNew, [laneCount]uint64{uint64(h)})
	default:
		h, ok = e.addLarge(key, hash, pl).acquire(pl, r)
	}
	if ok {
		sh.inUse++
	}
	return h, ok
}

// reserve takes this tuple towards key. It fails if the tuple is in use, retired or taken, or its port is not one of
// the pool's.
func (sh *shard) reserve(a *ask, h hold, pl *plan) bool {
	key, hash := a.key, a.hash
	sh.settle(pl)
	e := sh.entries(key)
	at, found := e.find(key, hash)
	if !pl.sources(key).handOut(h) || found && at.contains(h) {
		return false
	}
	switch d := at.destination(); {
	case d != nil:
		d.reserve(h, pl)
	case found:
		if !at.entry().reserve(h) {
			e.enlarge(at, pl).reserve(h, pl)
		}
	case pl.lanes: // lane 1 says whose turn it is
		e.add(key, hash, metaNew|1<<metaTurn, [laneCount]uint64{uint64(h), uint64(holdOf(randomTurn(pl.sources(key)), 0))})
	default:
		e.addLarge(key, hash, pl).reserve(h, pl)
	}
	sh.took(a, h, pl)
	return true
}

// took counts a tuple that was taken into use.
func (sh *shard) took(a *ask, h hold, pl *plan) {
	sh.inUse++
	if pl.quota != nil {
		pl.quota.took(sh, a, h)
	}
}

// retire ends the use of a tuple: it is free after delay. It fails if the tuple is not in use. The kind is not taken,
// unless delay is not positive.
func (sh *shard) retire(key dstKey, hash uint64, h hold, k kind, delay time.Duration, pl *plan) bool {
	sh.settle(pl)
	at, found := sh.entries(key).find(key, hash)
	if !found || !at.isInUse(h) {
		return false
	}
	sh.inUse--
	if delay <= 0 {
		sh.free(at, h, pl)
		return true
	}
	until := after(delay)
	d := at.destination()
	if d != nil {
		d.retire(h, until)
	} else {
		at.entry().setRetired(at.entry().find(h))
	}
	if pl.quota != nil {
		pl.quota.retired(sh, key, h)
	}
	sh.cool.add(k, delay, resting{until, key, h})
	sh.setDue()
	sh.setWake()
	if sh.cool.early != nil && d != nil && d.isWaitedFor() {
		sh.serveBoth(key, pl)
	}
	return true
}

// free frees a tuple that is in use, retired or taken, and gives it to whoever waits for it.
func (sh *shard) free(at place, h hold, pl *plan) {
	key := at.s.key(at.i)
	d := at.destination()
	sh.release(at, d, key, h, pl)
	if pl.quota != nil {
		sh.serveBoth(key, pl)
	} else if d != nil {
		sh.serve(d, pl)
		at.e.reduce(at, d, pl)
	}
}

// release frees a tuple that is in use, retired or taken, and serves nobody. d is the destination of a large entry.
func (sh *shard) release(at place, d *destination, key dstKey, h hold, pl *plan) {
	was := InUse
	if d != nil {
		was = d.release(h, pl)
	} else {
		en := at.entry()
		retired, idle := en.release(en.find(h))
		if retired {
			was = Retired
		}
		if idle {
			at.e.remove(at)
		}
	}
	if pl.quota != nil && was != Taken {
		pl.quota.freed(sh, key, h, was)
	}
}

func (sh *shard) contains(key dstKey, hash uint64, h hold, pl *plan) bool {
	sh.settle(pl)
	at, found := sh.entries(key).find(key, hash)
	return found && at.contains(h)
}

// reduce is entries.reduce for the destination of a, if it is a large one.
func (sh *shard) reduce(a *ask, pl *plan) {
	at, _ := sh.entries(a.key).find(a.key, a.hash)
	if d := at.destination(); d != nil {
		at.e.reduce(at, d, pl)
	}
}

// refused is the error for an acquire that something stands in the way of.
func (sh *shard) refused(a *ask, why error) error {
	pl := sh.plan.Load()
	if which, most := sh.stops(a, pl); which != "" {
		err := &QuotaError{Dst: dstKeyOf(a.to, a.dst.Port()).netip(), Quota: which, Max: most, Err: why}
		switch which {
		case "MaxPerOwner":
			o := pl.quota.owners.get(a.owner)
			err.Owner, err.InUse, err.Retired = a.owner, o.held-o.retired, o.retired
		case "MaxTuples":
			err.InUse, err.Retired = pl.quota.held-pl.quota.rest, pl.quota.rest
		default:
			at, _ := sh.entries(a.key).find(a.key, a.hash)
			err.InUse, err.Retired, _ = at.counts()
		}
		return err
	}
	return sh.exhausted(a, why)
}

// exhausted is the error for an acquire that found nothing free.
func (sh *shard) exhausted(a *ask, why error) error {
	err := &ExhaustedError{Dst: dstKeyOf(a.to, a.dst.Port()).netip(), Err: why}
	at, found := sh.entries(a.key).find(a.key, a.hash)
	if !found {
		return err
	}
	err.InUse, err.Retired, err.Taken = at.counts()
	if err.Retired+err.Taken == 0 {
		return err
	}
	next := int64(0)
	d := at.destination()
	if d != nil {
		next = d.next
	}
	if next == 0 {
		next = sh.cool.nextOf(a.key)
	}
	if d != nil {
		d.next = next
	}
	if next != never {
		err.Next = time.Duration(max(1, next-now()))
	}
	return err
}
