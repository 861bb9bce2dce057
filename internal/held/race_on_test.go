//go:build race

package held_test

// The race detector makes sync.Pool forget things at random, and so allocations of them.
const raceEnabled = true
