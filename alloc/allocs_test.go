package alloc_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
)

// In the steady state no method allocates: neither empty, nor full, nor where the list becomes bits or bits the list.
func TestTheSteadyStateDoesNotAllocate(t *testing.T) {
	all := alloc.RangeSet(1024, 65535)
	in := alloc.MustParseSet("20000-20999,!20100-20199")
	n := all.Len()
	for i, inUse := range []int{0, 1, 31, 32, 33, 63, 64, 65, 66, 128, n / 2, n * 999 / 1000, n - 1, n} {
		t.Run(fmt.Sprintf("inUse=%d", inUse), func(t *testing.T) {
			t.Logf("seed: rand.NewPCG(1, %d)", i)
			p := alloc.NewFrom(all, rand.NewPCG(1, uint64(i)).Uint64)
			var last uint16
			for range inUse {
				last, _ = p.Acquire()
			}
			p.AcquireIn(in) // builds the table of in, once
			for p.Len() > inUse {
				for port := range in.All() {
					if port != last && p.Release(port) {
						break
					}
				}
			}
			free := func(name string, f func()) {
				require.Zero(t, testing.AllocsPerRun(100, f), name)
			}
			free("Acquire+Release", func() {
				if port, ok := p.Acquire(); ok != (inUse < n) || ok && !p.Release(port) {
					panic("wrong")
				}
			})
			free("AcquireIn+Release", func() {
				if port, ok := p.AcquireIn(in); ok && !p.Release(port) {
					panic("wrong")
				}
			})
			if inUse > 0 {
				free("Release+Reserve", func() {
					if !p.Release(last) || !p.Reserve(last) {
						panic("wrong")
					}
				})
			}
			free("Contains, Len, Free", func() {
				if p.Contains(last) != (inUse > 0) || p.Len()+p.Free() != n {
					panic("wrong")
				}
			})
		})
	}
}

// A Ports that is bits and stays above the lower threshold allocates nothing. A list that stays a list does not either.
func TestHoveringAroundTheListDoesNotAllocate(t *testing.T) {
	t.Log("seed: rand.NewPCG(2, 1)")
	p := alloc.NewFrom(alloc.RangeSet(1024, 65535), rand.NewPCG(2, 1).Uint64)
	held := make([]uint16, 0, 128)
	to := func(n int) {
		for len(held) < n {
			port, _ := p.Acquire()
			held = append(held, port)
		}
		for len(held) > n {
			p.Release(held[len(held)-1])
			held = held[:len(held)-1]
		}
	}
	to(65)
	require.Zero(t, testing.AllocsPerRun(100, func() { to(33); to(80) }))
	to(32)
	require.Zero(t, testing.AllocsPerRun(100, func() { to(0); to(64) }))
}
