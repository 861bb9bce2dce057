package tuple

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"github.com/ephemera-go/ephemera/internal/liveheap"
	"github.com/ephemera-go/ephemera/tuple"
)

func dst4(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 443)
}

func dst6(i int) netip.AddrPort {
	a := netip.MustParseAddr("2001:db8:f::").As16()
	a[13], a[14], a[15] = byte(i>>16), byte(i>>8), byte(i)
	return netip.AddrPortFrom(netip.AddrFrom16(a), 443)
}

// TestHolders: every contender holds each tuple once, finds it as long as it is held, and takes it back once.
func TestHolders(t *testing.T) {
	for _, c := range holders {
		h := c.new()
		held := map[tuple.Tuple]bool{}
		for i := range 3000 {
			dst := dst4(i % 3)
			if i%2 == 0 {
				dst = dst6(i % 3)
			}
			u := h.Acquire(dst)
			if held[u] || u.Dst() != dst || c.name != "gvisor" && !h.Contains(u) {
				t.Fatalf("%s: Acquire(%v) = %v", c.name, dst, u)
			}
			held[u] = true
		}
		for u := range held {
			if !h.Release(u) || c.name != "gvisor" && (h.Release(u) || h.Contains(u)) {
				t.Fatalf("%s: Release(%v) must work once", c.name, u)
			}
		}
	}
}

// full is a contender that holds one tuple to each of n destinations or, if that is one, 1,000 to it.
type full struct {
	holder
	held, free []tuple.Tuple // in random order
	dsts       []netip.AddrPort
}

func fill(h holder, n int) *full {
	f := &full{holder: h}
	for i := range max(n, 1000) {
		f.held = append(f.held, h.Acquire(dst4(i%n)))
	}
	rand.Shuffle(len(f.held), func(i, j int) { f.held[i], f.held[j] = f.held[j], f.held[i] })
	for _, u := range f.held {
		f.dsts = append(f.dsts, u.Dst())
		f.free = append(f.free, u.Key().Tuple(80)) // not one of the ports
	}
	return f
}

// each runs f over contenders that hold one tuple to each of 1, 1,000 and 1,000,000 destinations.
func each(b *testing.B, names func(name string) bool, f func(b *testing.B, at *full)) {
	for _, c := range holders {
		if !names(c.name) {
			continue
		}
		for _, n := range []int{1, 1000, 1_000_000} {
			at := fill(c.new(), n)
			b.Run(fmt.Sprintf("impl=%s/destinations=%d", c.name, n), func(b *testing.B) { f(b, at) })
		}
	}
}

// loop runs f(i) with i from 0 to n-1 and round again, in one goroutine or two.
func loop(b *testing.B, goroutines, n int, f func(i int)) {
	if goroutines == 1 {
		i := 0
		for b.Loop() {
			f(i)
			if i++; i == n {
				i = 0
			}
		}
		return
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(goroutines))
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.IntN(n); pb.Next(); {
			f(i)
			if i++; i == n {
				i = 0
			}
		}
	})
}

func all(string) bool { return true }

func BenchmarkAcquireRelease(b *testing.B) {
	each(b, all, func(b *testing.B, at *full) {
		for _, goroutines := range []int{1, 2} {
			b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
				b.ReportAllocs()
				loop(b, goroutines, len(at.dsts), func(i int) {
					if u := at.Acquire(at.dsts[i]); !at.Release(u) {
						b.Error("not in use", u)
					}
				})
			})
		}
	})
}

// BenchmarkContains looks for tuples half of which are held. A share of the operations, in per cent, is an acquire and
// release instead.
func BenchmarkContains(b *testing.B) {
	each(b, func(name string) bool { return name != "gvisor" }, func(b *testing.B, at *full) {
		for _, goroutines := range []int{1, 2} {
			for _, writes := range []int{0, 10, 50} {
				b.Run(fmt.Sprintf("goroutines=%d/writes=%d", goroutines, writes), func(b *testing.B) {
					loop(b, goroutines, len(at.held), func(i int) {
						switch {
						case i*37%100 < writes:
							at.Release(at.Acquire(at.dsts[i]))
						case i%2 == 0:
							if !at.Contains(at.held[i]) {
								b.Error("not found", at.held[i])
							}
						case at.Contains(at.free[i]):
							b.Error("found", at.free[i])
						}
					})
				})
			}
		}
	})
}

// BenchmarkMemory is the live heap of one tuple to each of a million destinations (sparse), and of 64,512 tuples to one
// (dense), and what is left of it when they are released. It takes one iteration.
func BenchmarkMemory(b *testing.B) {
	for _, c := range holders {
		for _, family := range []struct {
			name string
			dst  func(i int) netip.AddrPort
		}{{"ipv4", dst4}, {"ipv6", dst6}} {
			for _, shape := range []struct {
				name         string
				dsts, tuples int
			}{{"sparse", 1_000_000, 1_000_000}, {"dense", 1, count}} {
				b.Run(fmt.Sprintf("impl=%s/family=%s/shape=%s", c.name, family.name, shape.name), func(b *testing.B) {
					if c.name == "gvisor" && shape.name == "dense" {
						b.Skip("it takes minutes to fill the last ports")
					}
					h := c.new()
					h.Release(h.Acquire(family.dst(0))) // makes its tables
					held := make([]tuple.Tuple, shape.tuples)
					before := liveheap.Bytes()
					for i := range held {
						held[i] = h.Acquire(family.dst(i % shape.dsts))
					}
					b.ReportMetric(float64(liveheap.Bytes()-before)/float64(len(held)), "B/tuple")
					for _, u := range held {
						h.Release(u)
					}
					b.ReportMetric(float64(liveheap.Bytes()-before)/float64(len(held)), "left-B/tuple")
					b.ReportMetric(0, "ns/op")
					runtime.KeepAlive(held)
					runtime.KeepAlive(h)
				})
			}
		}
	}
}
