package tuple

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
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

// TestHolders: every contender hands out each tuple once, finds it while it is held, and releases it once.
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

// TestHoldersShareNothing: a goroutine does not get a tuple that another one holds.
func TestHoldersShareNothing(t *testing.T) {
	for _, c := range holders {
		h := c.new()
		var held sync.Map
		var done sync.WaitGroup
		for range 2 {
			done.Go(func() {
				for i := range 3000 {
					u := h.Acquire(dst4(0))
					if _, twice := held.LoadOrStore(u, true); twice {
						t.Errorf("%s: %v is held twice", c.name, u)
					}
					if i%2 == 0 {
						held.Delete(u)
						h.Release(u)
					}
				}
			})
		}
		done.Wait()
	}
}

// each runs f for each contender with 1, 1,000 and 1,000,000 destinations. names selects the contenders.
func each(b *testing.B, names func(name string) bool, f func(b *testing.B, l *load)) {
	for _, c := range append(slices.Clone(holders), contender{"none", func() holder { return none{} }}) {
		if !names(c.name) {
			continue
		}
		for _, n := range []int{1, 1000, 1_000_000} {
			b.Run(fmt.Sprintf("impl=%s/destinations=%d", c.name, n), func(b *testing.B) { f(b, newLoad(c.new(), n)) })
		}
	}
}

// loop runs f in one goroutine or two.
func loop(b *testing.B, goroutines int, f func(next func() bool)) {
	if goroutines == 1 {
		f(b.Loop)
		return
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(goroutines))
	b.RunParallel(func(pb *testing.PB) { f(pb.Next) })
}

func BenchmarkAcquireRelease(b *testing.B) {
	each(b, func(string) bool { return true }, func(b *testing.B, l *load) {
		for _, goroutines := range []int{1, 2} {
			b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
				b.ReportAllocs()
				loop(b, goroutines, func(next func() bool) { l.acquireRelease(b, next) })
			})
		}
	})
}

// BenchmarkContains looks up tuples. Half of them are held. A share of the operations, in percent, is an acquire or a
// release instead.
func BenchmarkContains(b *testing.B) {
	each(b, func(name string) bool { return name != "gvisor" }, func(b *testing.B, l *load) {
		l.drawLookups()
		for _, share := range []int{0, 10, 50} {
			writes := marks(len(l.lookups), share)
			for _, goroutines := range []int{1, 2} {
				b.Run(fmt.Sprintf("goroutines=%d/writes=%d", goroutines, share), func(b *testing.B) {
					loop(b, goroutines, func(next func() bool) { l.mix(b, writes, next) })
				})
			}
		}
	})
}

// BenchmarkMemory measures the live heap of one tuple towards each of a million destinations (sparse) and of 64,512
// tuples towards one (dense), and what is left after their release. It needs one iteration.
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
					h := c.new()
					h.Release(h.Acquire(family.dst(0))) // makes the tables of the contender
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
