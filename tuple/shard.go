package tuple

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/ephemera-go/ephemera/internal/cooling"
	"github.com/ephemera-go/ephemera/internal/held"
	"github.com/ephemera-go/ephemera/internal/ports"
	"github.com/ephemera-go/ephemera/internal/shrink"
)

// shard is the part of the destinations that one lock guards: what is held towards them, what cools down, and who
// waits. An acquire takes one lock, and knows exactly whether any source has a free port towards its destination.
//
// The caller of a method must hold mu, except for has. Each operation begins with settle, which frees the tuples whose
// cool-down has passed.
//
// The fields that every operation writes, the lock and the counts, begin a cache line. Fields that most operations only
// read lie in other lines, and no two shards share a line. Two cores that write the same line wait for each other.
type shard struct {
	held held.Table
	due  atomic.Int64 // when the first retired or taken tuple comes free; never if none does
	plan atomic.Pointer[plan]
	mu   *sync.Mutex // own or, if there is a quota, that of the quota
	_    [(cacheLine - (unsafe.Sizeof(held.Table{})+8+2*wordSize)%cacheLine) % cacheLine]byte

	own   sync.Mutex
	inUse int
	wake  *time.Timer // set only while somebody waits and a tuple comes free by itself
	cool  cooling.Queue[held.Key, class]
	next  map[held.Key]int64             // answers of cool.NextOf that are still right
	waits hall                           // all waiters
	lines shrink.Map[held.Key, *line]    // the waiters for a destination
	owned shrink.Map[ownedTuple, *owner] // the owners of tuples, if there is a MaxPerOwner
	_     [cacheLine - (countsSize+coolingSize+2*wordSize+3*mapSize)%cacheLine]byte
}

const (
	cacheLine   = 64
	wordSize    = unsafe.Sizeof(uintptr(0))
	countsSize  = unsafe.Sizeof(sync.Mutex{}) + 2*wordSize // with wake
	coolingSize = unsafe.Sizeof(cooling.Queue[held.Key, class]{})
	mapSize     = unsafe.Sizeof(shrink.Map[int, int]{})
)

// class is what a request asks for besides its destination and owner. The same tuples fit all requests of a class.
type class struct {
	src   held.Addr
	ports *ports.Allowed
}

// epoch is the time 0 of now.
var epoch = time.Now()

// never is after all other times. A tuple that is taken without a time has it.
const never = cooling.Never

func now() int64 { return int64(time.Since(epoch)) }

// settle frees what has cooled down, and gives it to those who wait for it.
func (sh *shard) settle(pl *plan) {
	if sh.due.Load() != never { // else it need not read the clock
		sh.freeDue(pl)
	}
}

func (sh *shard) freeDue(pl *plan) {
	t := now()
	for {
		c, ok := sh.cool.Pop(t)
		if !ok {
			break
		}
		sh.freeAndServe(c.Key, sh.held.Find(c.Key, c.Key.Hash(pl.Hash)), held.Hold(c.Hold), pl)
	}
	sh.setDue()
}

// setDue stores when the next tuple comes free, for readers without the lock.
func (sh *shard) setDue() {
	if due := sh.cool.Next(); due != sh.due.Load() {
		sh.due.Store(due)
	}
}

// coolDown makes a tuple come free by itself after d, never if d is negative.
func (sh *shard) coolDown(key held.Key, h held.Hold, k cooling.Kind, d time.Duration) {
	until := sh.cool.Add(key, uint64(h), k, now(), d)
	if next, known := sh.next[key]; known {
		sh.next[key] = min(next, until)
	}
	sh.setDue()
	sh.setWake()
}

// took counts a tuple that was taken into use.
func (sh *shard) took(a *ask, h held.Hold, pl *plan) {
	sh.inUse++
	if pl.quota != nil {
		pl.quota.took(sh, a, h)
	}
}

// freeAndServe frees a tuple that is held, and gives it to the first waiter that can use it.
func (sh *shard) freeAndServe(key held.Key, at held.Place, h held.Hold, pl *plan) {
	sh.free(key, at, h, pl)
	sh.serveWaiters(key, pl)
}

// free frees a tuple that is held. It serves no waiter.
func (sh *shard) free(key held.Key, at held.Place, h held.Hold, pl *plan) {
	was := at.Free(h, &pl.Rules)
	if was != held.InUse {
		delete(sh.next, key)
	}
	if pl.quota != nil && was != held.Taken {
		pl.quota.freed(sh, key, h, was)
	}
}

// maxNext limits for how many destinations a shard remembers when their first tuple comes free.
const maxNext = 64

// comesFree returns when the first of the retired or taken tuples towards a destination comes free, never if none does.
func (sh *shard) comesFree(key held.Key) int64 {
	next, known := sh.next[key]
	if !known {
		next = sh.cool.NextOf(key)
		if sh.next == nil || len(sh.next) >= maxNext {
			sh.next = make(map[held.Key]int64)
		}
		sh.next[key] = next
	}
	return next
}

// has is Contains without the lock. It does not always know: see held.Look for when. It does not know either when a
// tuple has just cooled down.
func (sh *shard) has(key held.Key, hash uint64, t *Tuple) (is, known bool) {
	due := sh.due.Load() // first, because another call may free the tuple, and due is then that of the others
	look := sh.held.Begin(key)
	h, ok := sh.plan.Load().Sources(key).Find(t.src, t.srcPort)
	if !ok {
		return false, true
	}
	is, known = look.Contains(key, hash, h)
	if !known || due != never && is && due <= now() { // is comes after due because its branch is hard to predict
		return false, false
	}
	return is, true
}

// saturate returns n as an int, math.MaxInt if it does not fit.
func saturate(n uint64) int { return int(min(n, math.MaxInt)) }
