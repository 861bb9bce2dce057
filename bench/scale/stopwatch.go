package main

import (
	"fmt"
	"math/bits"
	"time"
)

// stopwatch records how long calls took, and how long the thread was on a processor in the longest calls. The rest of
// the time the operating system ran others, or the collector stopped the program. Work that the collector makes the
// caller do counts as the call's own.
type stopwatch struct {
	thread func() (ran time.Duration, ok bool) // how long the calling thread has run so far

	counts               [64 * steps]int // of calls, by their time: eight steps for each power of two
	n                    int
	longest, longestRan  time.Duration
	overMilli, ranMillis int // how many took, and ran, more than 1 ms

	seen    time.Time // the last look at the thread's clock, and what it showed
	seenRan time.Duration
}

const (
	steps = 8
	// between is how many calls lie between two looks at the thread's clock. A look is a system call.
	between = 64
)

// begin starts the stopwatch. Call it before the first call, on a locked thread.
func (s *stopwatch) begin(now time.Time) {
	s.seen = now
	s.seenRan, _ = s.thread()
}

// add counts a call.
func (s *stopwatch) add(start, end time.Time) {
	d := end.Sub(start)
	s.counts[step(d)]++
	s.n++
	s.longest = max(s.longest, d)
	if d > time.Millisecond {
		s.overMilli++
	}
	if d > min(s.longestRan, time.Millisecond) {
		ran := s.look(d, end)
		s.longestRan = max(s.longestRan, ran)
		if ran > time.Millisecond {
			s.ranMillis++
		}
	} else if s.n%between == 0 {
		s.begin(end)
	}
}

// look returns how long the thread ran during a call that took d: d minus the time that the thread did not run since
// the last look, which was a few calls ago.
func (s *stopwatch) look(d time.Duration, end time.Time) time.Duration {
	ran, ok := s.thread()
	if !ok {
		return d
	}
	away := end.Sub(s.seen) - (ran - s.seenRan)
	s.seen, s.seenRan = end, ran
	return d - min(max(away, 0), d)
}

// quantile returns the q-quantile of the times, at most an eighth too high: the end of the step that it is in.
func (s *stopwatch) quantile(q float64) time.Duration {
	rest := int(q * float64(s.n))
	for i, c := range s.counts {
		if rest -= c; rest < 0 {
			return min(until(i), s.longest)
		}
	}
	return s.longest
}

// step returns the index of d in counts: by its power of two, and the eighth within that.
func step(d time.Duration) int {
	v := uint64(max(d, steps))
	shift := bits.Len64(v) - 4
	return shift*steps + int(v>>shift) - steps
}

// until returns the end of a step.
func until(i int) time.Duration {
	return time.Duration(i%steps+steps+1) << (i / steps)
}

// String returns the figures in the format of Go benchmarks.
func (s *stopwatch) String() string {
	us := func(d time.Duration) float64 { return float64(d) / 1000 }
	return fmt.Sprintf("%.2f p99.99-us\t%.0f longest-us\t%.0f longest-cpu-us\t%d over-1ms\t%d over-1ms-cpu",
		us(s.quantile(0.9999)), us(s.longest), us(s.longestRan), s.overMilli, s.ranMillis)
}
