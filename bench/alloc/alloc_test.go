package alloc

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
)

// fills are shares of the 64,512 ports in use, in per cent.
var fills = []float64{0, 50, 90, 99, 99.9, 99.99}

// TestPeers: every contender hands out each port once and then none, and takes back what it gave.
func TestPeers(t *testing.T) {
	for _, p := range peers {
		a := p.new()
		seen := make(map[uint16]bool)
		for _, port := range order[:size-300] { // the last 300 are slow to find, for some
			a.Reserve(port)
			seen[port] = true
		}
		for range 300 {
			port, ok := a.Acquire()
			if !ok || seen[port] || port < first {
				t.Fatalf("%s: Acquire() = %d, %v after %d ports", p.name, port, ok, len(seen))
			}
			seen[port] = true
		}
		if port, ok := a.Acquire(); ok {
			t.Errorf("%s: Acquire() = %d of a full range", p.name, port)
		}
		if !a.Release(first) || a.Release(first) {
			t.Errorf("%s: Release(%d) must work once", p.name, first)
		}
	}
}

// order is all ports in the random order in which each contender is filled.
var order = func() []uint16 {
	ports := make([]uint16, size)
	for i, at := range rand.New(rand.NewPCG(1, 1)).Perm(size) {
		ports[i] = uint16(first + at)
	}
	return ports
}()

func BenchmarkAcquireRelease(b *testing.B) {
	for _, p := range peers {
		for _, fill := range fills {
			a := filled(p.new(), fill)
			for _, goroutines := range []int{1, 2} {
				b.Run(fmt.Sprintf("impl=%s/fill=%g/goroutines=%d", p.name, fill, goroutines), func(b *testing.B) {
					b.ReportAllocs()
					loop(b, goroutines, func() {
						port, _ := a.Acquire()
						a.Release(port)
					})
				})
			}
		}
	}
}

// BenchmarkFull is the time to find out that nothing is free.
func BenchmarkFull(b *testing.B) {
	for _, p := range peers {
		a := filled(p.new(), 100)
		for _, goroutines := range []int{1, 2} {
			b.Run(fmt.Sprintf("impl=%s/goroutines=%d", p.name, goroutines), func(b *testing.B) {
				loop(b, goroutines, func() {
					if _, ok := a.Acquire(); ok {
						b.Error("a port was free")
					}
				})
			})
		}
	}
}

// loop runs f in one goroutine or two.
func loop(b *testing.B, goroutines int, f func()) {
	if goroutines == 1 {
		for b.Loop() {
			f()
		}
		return
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(goroutines))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			f()
		}
	})
}

// filled takes a share of the ports as the contender itself picks them, for one that favours the ports after used ones
// makes clusters of them; where that would take minutes, at random.
func filled(a allocator, per100 float64) allocator {
	ports := order[:int(per100/100*size)]
	for _, port := range ports {
		switch a.(type) {
		case *model, *gVisor:
			a.Reserve(port)
		default:
			a.Acquire()
		}
	}
	return a
}
