package main

import (
	"testing"
	"time"
)

func TestStepsHoldWhatTheySay(t *testing.T) {
	for d := time.Duration(1); d < 10*time.Second; d += 1 + d/5 {
		if i := step(d); d >= until(i) || i > 0 && d > steps && d < until(i-1) {
			t.Errorf("%v is in the step until %v, after the one until %v", d, until(i), until(i-1))
		}
	}
}

func TestStopwatchTellsWhatTheThreadRan(t *testing.T) {
	now, ran := time.Now(), time.Duration(0)
	s := stopwatch{thread: func() (time.Duration, bool) { return ran, true }}
	s.begin(now)
	call := func(took, away time.Duration) {
		start := now
		now = now.Add(took)
		ran += took - away
		s.add(start, now)
	}
	for range 100_000 {
		call(time.Microsecond, 0)
	}
	call(5*time.Millisecond, 5*time.Millisecond-time.Microsecond) // the scheduler
	call(3*time.Millisecond, 0)                                   // a table that grows
	call(2*time.Millisecond, 1500*time.Microsecond)
	for range 100_000 {
		call(time.Microsecond, 0)
	}
	if s.longest != 5*time.Millisecond || s.overMilli != 3 {
		t.Errorf("the longest took %v, %d took more than 1 ms", s.longest, s.overMilli)
	}
	if s.longestRan != 3*time.Millisecond || s.ranMillis != 1 {
		t.Errorf("the longest ran %v, %d ran more than 1 ms", s.longestRan, s.ranMillis)
	}
	if q := s.quantile(0.9999); q > 1200*time.Nanosecond {
		t.Errorf("p99.99 is %v", q)
	}
	if q := s.quantile(0.999999); q != s.longest {
		t.Errorf("p99.9999 is %v", q)
	}
}

func TestWithoutAThreadClockItIsAllTheCalls(t *testing.T) {
	s := stopwatch{thread: func() (time.Duration, bool) { return 0, false }}
	now := time.Now()
	s.begin(now)
	s.add(now, now.Add(2*time.Millisecond))
	if s.longestRan != 2*time.Millisecond || s.ranMillis != 1 {
		t.Errorf("the longest ran %v", s.longestRan)
	}
}
