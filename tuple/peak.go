package tuple

// The peak of a destination is the most tuples held towards it at once since it last held none. A large destination
// has a field for it. An entry has it in its meta bits, and takes no step more for it than to compare: as a lane is
// taken only when all before it are, taking one that was never taken before makes a new peak, and nothing else does.
//
// A large destination that becomes small again may bring a peak that the meta bits have no room for. They are 0 then,
// and it lies in the last lane, as the number of a hold without a port, for which nobody looks. The entry has a lane
// less, and becomes large again the sooner.

// The highest peak in the meta bits.
const mostPeak = 1<<8 - 1

const peakLane = laneCount - 1

// metaNew is what an entry begins with, for its first tuple.
const metaNew = 1 << metaPeak

func (en *entry) hasPeakLane() bool { return en[0]&metaPeaks == 0 }

func (en *entry) peak() int {
	if en.hasPeakLane() {
		return int(en.lane(peakLane).number())
	}
	return int(en[0]&metaPeaks) >> metaPeak
}

// raised returns the last word of the key with the peak that there is when lane j is taken, which must be free.
func (en *entry) raised(j int) uint64 {
	last := en[0]
	if peak := int(last&metaPeaks) >> metaPeak; j >= peak && peak > 0 {
		last += 1 << metaPeak // j is peak, for no lane is left out
	}
	return last
}
