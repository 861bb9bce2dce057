package alloc

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// fills are the shares of the 64,512 ports that are in use, in percent.
var fills = []float64{0, 50, 90, 99, 99.9, 99.99}

// TestPeers: every contender hands out each port once and then none, and takes back each port once.
func TestPeers(t *testing.T) {
	for _, p := range peers {
		a := p.new()
		seen := make(map[uint16]bool)
		for _, port := range shuffled[:size-30] { // some contenders are slow to find the last 30
			a.Reserve(port)
			seen[port] = true
		}
		for range 30 {
			port, ok := a.Acquire()
			if !ok || seen[port] || port < first {
				t.Fatalf("%s: Acquire() = %d, %v after %d ports", p.name, port, ok, len(seen))
			}
			seen[port] = true
		}
		if port, ok := a.Acquire(); ok {
			t.Errorf("%s: Acquire() = %d of a full range", p.name, port)
		}
		if !a.Release(first) || p.name != "gvisor" && a.Release(first) {
			t.Errorf("%s: Release(%d) must work once", p.name, first)
		}
		if port, ok := a.Acquire(); !ok || port != first {
			t.Errorf("%s: Acquire() = %d, %v when only %d is free", p.name, port, ok, first)
		}
		if port, ok := a.Acquire(); ok {
			t.Errorf("%s: Acquire() = %d of a range that is full again", p.name, port)
		}
	}
}

func BenchmarkAcquireRelease(b *testing.B) {
	for _, p := range peers {
		b.Run("impl="+p.name, func(b *testing.B) {
			for _, order := range orders {
				f := p.fill(order)
				for _, fill := range fills {
					f.to(fill)
					for _, goroutines := range []int{1, 2} {
						if order == "own" || goroutines == 1 {
							acquireRelease(b, f, fill, order, goroutines)
						}
					}
				}
			}
		})
	}
	b.Run("impl=none", func(b *testing.B) {
		for _, goroutines := range []int{1, 2} {
			acquireRelease(b, none{}, 0, "own", goroutines)
		}
	})
}

func acquireRelease(b *testing.B, a allocator, fill float64, order string, goroutines int) {
	b.Run(fmt.Sprintf("fill=%g/order=%s/goroutines=%d", fill, order, goroutines), func(b *testing.B) {
		loop(b, goroutines, func() {
			port, _ := a.Acquire()
			a.Release(port)
		})
	})
}

// BenchmarkFull measures how long it takes to find out that nothing is free.
func BenchmarkFull(b *testing.B) {
	for _, p := range peers {
		b.Run("impl="+p.name, func(b *testing.B) {
			f := p.fill("own")
			f.to(100)
			for _, goroutines := range []int{1, 2} {
				b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
					loop(b, goroutines, func() {
						if _, ok := f.Acquire(); ok {
							b.Error("a port was free")
						}
					})
				})
			}
		})
	}
}

// loop runs op b.N times, and at least ten times, in this many goroutines. It takes ten because the lengths of walks
// differ by orders of magnitude. All goroutines work until the last thousandth of the operations has begun.
func loop(b *testing.B, goroutines int, op func()) {
	n := max(b.N, 10)
	chunk := (n + 999) / 1000
	chunks := (n + chunk - 1) / chunk
	var begun atomic.Int64
	var done sync.WaitGroup
	b.ResetTimer()
	for range goroutines {
		done.Go(func() {
			for begun.Add(1) <= int64(chunks) {
				for range chunk {
					op()
				}
			}
		})
	}
	done.Wait()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(chunks*chunk), "ns/op")
}
