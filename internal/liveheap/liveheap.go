// Package liveheap measures what tests and benchmarks hold in memory.
package liveheap

import "runtime"

// Bytes returns the bytes of the live heap. What a sync.Pool keeps goes with the second collection.
func Bytes() int {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}
