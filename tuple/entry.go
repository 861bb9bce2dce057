package tuple

import "sync/atomic"

// entry is what a slot says of its destination: the last word of the key with the meta bits, and the lanes. A lane is
// the hold of a tuple; one without a port is free. A large entry has a destination of its own instead.
//
// All of it is stored atomically, for those who read without the lock. A hold does not change its lane, and a lane is
// taken only when all before it are.
type entry [1 + laneCount]uint64

// The meta bits, below the key in its last word.
const (
	metaBits    = 0xffff
	metaLarge   = 1 << 15
	metaRetired = 1 // <<j: the tuple in lane j is retired
	metaTurn    = laneCount
	metaTurns   = 3 << metaTurn // in which lane, free or not, the number of the source is whose turn was the last one
	metaPeak    = metaTurn + 2
	metaPeaks   = mostPeak << metaPeak // the most tuples held at once, see peak.go
)

func (en *entry) setLast(w uint64)      { atomic.StoreUint64(&en[0], w) }
func (en *entry) setLane(j int, h hold) { atomic.StoreUint64(&en[1+j], uint64(h)) }
func (en *entry) lane(j int) hold       { return hold(en[1+j]) }
func (en *entry) isLarge() bool         { return en[0]&metaLarge != 0 }
func (en *entry) isRetired(j int) bool  { return en[0]&(metaRetired<<j) != 0 }
func (en *entry) setRetired(j int)      { en.setLast(en[0] | metaRetired<<j) }
func (en *entry) turnLane() int         { return int(en[0]&metaTurns) >> metaTurn }

// find returns the lane of h, negative if it is in none.
func (en *entry) find(h hold) int {
	for j := range laneCount {
		if en.lane(j) == h {
			return j
		}
	}
	return -1
}

// has is find for a reader without the lock. It has no branch, for which lane it is is hard to predict.
func (en *entry) has(h hold) bool {
	return min(atomic.LoadUint64(&en[1])^uint64(h), atomic.LoadUint64(&en[2])^uint64(h), atomic.LoadUint64(&en[3])^uint64(h)) == 0
}

// acquire takes a free port of the source whose turn it is. It fails if no lane is free.
func (en *entry) acquire(from *sources, pl *plan, r uint64) (h hold, ok bool) {
	j := en.freeLane()
	if j < 0 {
		return 0, false
	}
	number := uint64(0)
	if from.n > 1 {
		number = en.turn(from.n)
	}
	return en.take(j, number, from, pl, r), true
}

// turn is the number of the source whose turn it is among n.
func (en *entry) turn(n uint64) uint64 {
	number := en.lane(en.turnLane()).number() + 1
	if number >= n {
		return 0
	}
	return number
}

// freeLane returns the first free lane, negative if there is none.
func (en *entry) freeLane() int { return en.freeLaneFrom(0) }

// freeLaneFrom returns the first free lane from j on, negative if there is none.
func (en *entry) freeLaneFrom(j int) int {
	for ; j < laneCount; j++ {
		if en.lane(j).port() == 0 {
			if j == peakLane && en.hasPeakLane() {
				break
			}
			return j
		}
	}
	return -1
}

// take takes a free port of a source into the free lane j: it was the source's turn. The ports are more than the
// lanes, so none else can keep it from finding one.
func (en *entry) take(j int, number uint64, from *sources, pl *plan, r uint64) hold {
	last := en.raised(j)
	if from.n > 1 {
		last = last&^metaTurns | uint64(j)<<metaTurn
	}
	if last != en[0] { // seldom: storing it atomically takes longer than all else here
		en.setLast(last)
	}
	table := from.table(number)
	for {
		h := holdOf(number, table.Draw(r, pl.rand))
		if en.find(h) < 0 {
			en.setLane(j, h)
			return h
		}
		r = pl.rand()
	}
}

// reserve takes h, which is not in, into the first free lane. If that is the one that tells whose turn it is, another
// free one has to tell it from now on. It fails if there is none.
func (en *entry) reserve(h hold) bool {
	j := en.freeLane()
	if j < 0 {
		return false
	}
	last := en.raised(j)
	if j == en.turnLane() {
		other := en.freeLaneFrom(j + 1)
		if other < 0 {
			return false
		}
		en.setLane(other, en.lane(j))
		last = last&^metaTurns | uint64(other)<<metaTurn
	}
	en.setLane(j, h)
	if last != en[0] {
		en.setLast(last)
	}
	return true
}

// counts returns how many tuples are in use and retired.
func (en *entry) counts() (inUse, retired int) {
	for j := range laneCount {
		switch {
		case en.lane(j).port() == 0:
		case en.isRetired(j):
			retired++
		default:
			inUse++
		}
	}
	return inUse, retired
}

// reuse makes the retired tuple in lane j one in use.
func (en *entry) reuse(j int) { en.setLast(en[0] &^ (metaRetired << j)) }

// release frees lane j. It reports whether the tuple was retired, and whether all lanes are free.
func (en *entry) release(j int) (retired, idle bool) {
	en.setLane(j, en.lane(j)&^0xffff)
	if retired = en.isRetired(j); retired {
		en.reuse(j)
	}
	return retired, (en[1]|en[2]|en[3])&0xffff == 0
}
