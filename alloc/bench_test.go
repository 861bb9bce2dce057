package alloc_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/bits-and-blooms/bitset"

	"github.com/ephemera-go/ephemera/alloc"
)

type allocator interface {
	Acquire() (port uint16, ok bool)
	Release(port uint16) bool
}

// nextClear is the simple solution: the ports in use as bits under a mutex. It picks the first free port after a random
// one, which is not uniform.
type nextClear struct {
	mu          sync.Mutex
	used        *bitset.BitSet
	first, last uint
}

func newNextClear(first, last uint) *nextClear {
	return &nextClear{used: bitset.New(last + 1), first: first, last: last}
}

func (c *nextClear) Acquire() (uint16, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	port, ok := c.used.NextClear(c.first + rand.UintN(c.last-c.first+1))
	if !ok {
		if port, ok = c.used.NextClear(c.first); !ok {
			return 0, false
		}
	}
	c.used.Set(port)
	return uint16(port), true
}

func (c *nextClear) Release(port uint16) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.used.Test(uint(port))
	c.used.Clear(uint(port))
	return was
}

var percentages = []float64{0, 50, 90, 99, 99.9, 99.99}

// fill takes this percentage of 64,512 ports into use. The allocator picks them.
func fill(a allocator, percent float64) {
	switch m := a.(type) {
	case *model: // at random, as its Acquire picks them, which would list the free ports each time and take minutes
		for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(len(m.allowed))[:int(percent/100*64512)] {
			m.used[m.allowed[i]] = true
		}
	default:
		for range int(percent / 100 * 64512) {
			a.Acquire()
		}
	}
}

func contenders() []struct {
	name string
	new  func() allocator
} {
	set := alloc.RangeSet(1024, 65535)
	return []struct {
		name string
		new  func() allocator
	}{
		{"ours", func() allocator { return alloc.New(set) }},
		{"nextclear", func() allocator { return newNextClear(1024, 65535) }},
		{"model", func() allocator { return newModel(set) }},
	}
}

func BenchmarkAcquireRelease(b *testing.B) {
	for _, c := range contenders() {
		for _, percent := range percentages {
			b.Run(fmt.Sprintf("impl=%s/fill=%g", c.name, percent), func(b *testing.B) {
				a := c.new()
				fill(a, percent)
				b.ReportAllocs()
				for b.Loop() {
					port, ok := a.Acquire()
					if !ok || !a.Release(port) {
						b.Fatal("no port")
					}
				}
			})
		}
	}
}

func BenchmarkAcquireReleaseParallel(b *testing.B) {
	for _, c := range contenders() {
		for _, percent := range percentages {
			b.Run(fmt.Sprintf("impl=%s/fill=%g", c.name, percent), func(b *testing.B) {
				a := c.new()
				fill(a, percent)
				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if port, ok := a.Acquire(); ok { // not ok if there are more goroutines than free ports
							a.Release(port)
						}
					}
				})
			})
		}
	}
}

// BenchmarkAcquireIn acquires among 1,000 ports of 64,512. The same share of them is free.
func BenchmarkAcquireIn(b *testing.B) {
	in := alloc.RangeSet(20000, 20999)
	for _, percent := range percentages[:5] {
		b.Run(fmt.Sprintf("impl=ours/fill=%g", percent), func(b *testing.B) {
			p := alloc.New(alloc.RangeSet(1024, 65535))
			fill(p, percent)
			p.Release(20500) // at least one
			b.ReportAllocs()
			for b.Loop() {
				port, ok := p.AcquireIn(in)
				if !ok || !p.Release(port) {
					b.Fatal("no port")
				}
			}
		})
	}
}

// BenchmarkExhausted measures an Acquire that finds no free port.
func BenchmarkExhausted(b *testing.B) {
	p := alloc.New(alloc.RangeSet(1024, 65535))
	fill(p, 100)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := p.Acquire(); ok {
			b.Fatal("found a port")
		}
	}
}
