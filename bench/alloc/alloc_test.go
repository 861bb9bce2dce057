package alloc

import (
	"fmt"
	"testing"
)

// fills are shares of the 64,512 ports in use, in per cent.
var fills = []float64{0, 50, 90, 99, 99.9, 99.99}

// TestPeers: every contender hands out each port once and then none, and takes back what it gave.
func TestPeers(t *testing.T) {
	for _, p := range peers {
		a := p.new()
		seen := make(map[uint16]bool)
		for range size {
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

func BenchmarkAcquireRelease(b *testing.B) {
	for _, p := range peers {
		for _, fill := range fills {
			b.Run(fmt.Sprintf("impl=%s/fill=%g", p.name, fill), func(b *testing.B) {
				a := filled(b, p.new(), fill)
				b.ReportAllocs()
				for b.Loop() {
					port, _ := a.Acquire()
					a.Release(port)
				}
			})
		}
	}
}

// BenchmarkFull is the time to find out that nothing is free.
func BenchmarkFull(b *testing.B) {
	for _, p := range peers {
		b.Run("impl="+p.name, func(b *testing.B) {
			a := filled(b, p.new(), 100)
			for b.Loop() {
				if _, ok := a.Acquire(); ok {
					b.Fatal("a port was free")
				}
			}
		})
	}
}

func filled(b *testing.B, a allocator, per100 float64) allocator {
	for range int(per100 / 100 * size) {
		if _, ok := a.Acquire(); !ok {
			b.Fatal("no port is free")
		}
	}
	return a
}
