package main

import (
	"fmt"
	"math/bits"
	"time"
)

// stopwatch keeps how long calls took: their distribution, and of the longest how much of it the thread spent on a
// processor. The rest is what the operating system gave to others, or the collector stopped the program for. Where
// the collector has the caller work for it, that counts as the call's own.
type stopwatch struct {
	thread func() (ran time.Duration, ok bool) // what the calling thread has run so far

	counts               [64 * steps]int // by logarithm, in steps of an eighth
	n                    int
	longest, longestRan  time.Duration
	overMilli, ranMillis int // how many took, and ran, more than 1 ms

	seen    time.Time // when the thread's clock was looked at last, and what it said
	seenRan time.Duration
}

const (
	steps = 8
	// between is how many calls lie between two looks at the thread's clock: it is a system call.
	between = 64
)

// begin must be called before the first call, on a locked thread.
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

// look returns what a call that took d ran: d less what the thread did not run since its clock was looked at last,
// which is a few calls ago.
func (s *stopwatch) look(d time.Duration, end time.Time) time.Duration {
	ran, ok := s.thread()
	if !ok {
		return d
	}
	away := end.Sub(s.seen) - (ran - s.seenRan)
	s.seen, s.seenRan = end, ran
	return d - min(max(away, 0), d)
}

// quantile returns the end of the step in which the share q of the calls is reached, an eighth above it at most.
func (s *stopwatch) quantile(q float64) time.Duration {
	rest := int(q * float64(s.n))
	for i, c := range s.counts {
		if rest -= c; rest < 0 {
			return min(until(i), s.longest)
		}
	}
	return s.longest
}

// step is the place of d among the counts: the power of two, and within it the eighth.
func step(d time.Duration) int {
	v := uint64(max(d, steps))
	shift := bits.Len64(v) - 4
	return shift*steps + int(v>>shift) - steps
}

// until is the end of a step.
func until(i int) time.Duration {
	return time.Duration(i%steps+steps+1) << (i / steps)
}

// String returns the figures as Go benchmarks print them.
func (s *stopwatch) String() string {
	us := func(d time.Duration) float64 { return float64(d) / 1000 }
	return fmt.Sprintf("%.2f p99.99-us\t%.0f longest-us\t%.0f longest-cpu-us\t%d over-1ms\t%d over-1ms-cpu",
		us(s.quantile(0.9999)), us(s.longest), us(s.longestRan), s.overMilli, s.ranMillis)
}
