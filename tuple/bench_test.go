package tuple_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// loop runs f(i) for random destinations i below n, in one goroutine or in one for each processor.
func loop(b *testing.B, parallel bool, n int, f func(i int)) {
	b.ReportAllocs()
	order := rand.New(rand.NewPCG(50, uint64(n))).Perm(n)
	if !parallel {
		for i := 0; b.Loop(); i++ {
			f(order[i%n])
		}
		return
	}
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.IntN(n); pb.Next(); i++ {
			f(order[i%n])
		}
	})
}

// overDestinations runs a benchmark with a pool that holds one tuple to each of 1, 1,000 and 100,000 destinations.
func overDestinations(b *testing.B, f func(p *tuple.Pool, held tuple.Tuple)) {
	for _, n := range []int{1, 1_000, 100_000} {
		p := new(tuple.Pool)
		held := make([]tuple.Tuple, n)
		for i := range held {
			held[i] = acquire(b, p, dstN(i))
		}
		for _, parallel := range []bool{false, true} {
			b.Run(fmt.Sprintf("destinations=%d/parallel=%t", n, parallel), func(b *testing.B) {
				loop(b, parallel, n, func(i int) { f(p, held[i]) })
			})
		}
	}
}

func BenchmarkTryAcquireRelease(b *testing.B) {
	overDestinations(b, func(p *tuple.Pool, held tuple.Tuple) {
		u, err := p.TryAcquire(held.Dst())
		if err != nil || !p.Release(u) {
			b.Error(u, err)
		}
	})
}

func BenchmarkContains(b *testing.B) {
	overDestinations(b, func(p *tuple.Pool, held tuple.Tuple) {
		if !p.Contains(held) {
			b.Error(held)
		}
	})
}

// A destination that holds nothing else comes and goes with each tuple.
func BenchmarkTryAcquireReleaseIdle(b *testing.B) {
	p := new(tuple.Pool)
	dsts := make([]netip.AddrPort, 1000)
	for i := range dsts {
		dsts[i] = dstN(i)
	}
	for _, parallel := range []bool{false, true} {
		b.Run(fmt.Sprintf("parallel=%t", parallel), func(b *testing.B) {
			loop(b, parallel, len(dsts), func(i int) {
				u, err := p.TryAcquire(dsts[i])
				if err != nil || !p.Release(u) && !parallel {
					b.Error(u, err)
				}
			})
		})
	}
}

func BenchmarkTryAcquireReleaseFill(b *testing.B) {
	for _, percent := range []float64{0, 50, 90, 99, 99.9} {
		b.Run(fmt.Sprintf("fill=%g", percent), func(b *testing.B) {
			p := new(tuple.Pool)
			for range int(64512 * percent / 100) {
				acquire(b, p, web)
			}
			b.ReportAllocs()
			for b.Loop() {
				u, err := p.TryAcquire(web)
				if err != nil || !p.Release(u) {
					b.Error(u, err)
				}
			}
		})
	}
}

func BenchmarkTryAcquireExhausted(b *testing.B) {
	for _, sources := range []string{"192.0.2.0/32", "192.0.2.0/24"} {
		for _, parallel := range []bool{false, true} {
			b.Run(fmt.Sprintf("source=%s/parallel=%t", sources, parallel), func(b *testing.B) {
				p := &tuple.Pool{Sources: prefixes(sources), Ports: alloc.RangeSet(1024, 2023)}
				fill(b, p, web)
				loop(b, parallel, 1, func(int) {
					if _, err := p.TryAcquire(web); err == nil {
						b.Error("a tuple out of nothing")
					}
				})
			})
		}
	}
}

// One tuple towards the exhausted destination cools down. It comes free after all those towards other destinations.
func BenchmarkTryAcquireExhaustedWhileOthersCoolDown(b *testing.B) {
	for _, n := range []int{0, 10_000, 1_000_000} {
		b.Run(fmt.Sprintf("retired=%d", n), func(b *testing.B) {
			p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5000)}
			for i := range n {
				p.Retire(acquire(b, p, dstN(i)), time.Hour)
			}
			p.Retire(acquire(b, p, web), time.Hour)
			for b.Loop() {
				if _, err := p.TryAcquire(web); err == nil {
					b.Error("a tuple out of nothing")
				}
			}
		})
	}
}

// Each tuple leaves from a source that holds nothing else towards the destination.
func BenchmarkTryAcquireReleaseManySources(b *testing.B) {
	p := &tuple.Pool{Sources: prefixes("192.0.2.0/24")}
	acquire(b, p, web)
	b.ReportAllocs()
	for b.Loop() {
		u, err := p.TryAcquire(web)
		if err != nil || !p.Release(u) {
			b.Error(u, err)
		}
	}
}
