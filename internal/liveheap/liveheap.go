// Package liveheap measures the memory in use, for tests and benchmarks.
package liveheap

import "runtime"

// Bytes returns the size of the live heap in bytes. It collects garbage twice, because the second collection frees the
// contents of a sync.Pool.
func Bytes() int {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}
