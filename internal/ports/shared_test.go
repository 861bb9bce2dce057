package ports

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A reader without the lock sees each port that is in use all the time, and no port that is free all the time, while
// the Space changes between few and dense.
func TestSharedSpaceIsReadWithoutTheLock(t *testing.T) {
	t.Log("seed: rand.NewPCG(7, 1)")
	a := Allow(slices.Values(span(1024, 65535, 1)))
	var s Space
	s.Use(a)
	s.Share()
	var in, out []uint16
	for i := range uint16(8) {
		in, out = append(in, 2000+7*i), append(out, 3000+7*i)
		require.True(t, s.Reserve(in[i]))
	}
	var stop atomic.Bool
	var looks atomic.Int64
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for !stop.Load() {
				for i := range in {
					if !s.Contains(in[i]) || s.Contains(out[i]) {
						assert.Fail(t, "a reader was wrong about a port that did not change",
							"%d in use, %d free", in[i], out[i])
						return
					}
				}
				looks.Add(1)
			}
		})
	}
	rng := rand.New(rand.NewPCG(7, 1))
	tours := 20_000
	if testing.Short() {
		tours = 3_000
	}
	for tour := 0; tour < tours || looks.Load() < 100; tour++ {
		var held []uint16
		for s.Len() < fewPorts+2 {
			if port := uint16(10_000 + rng.IntN(5000)); s.Reserve(port) {
				held = append(held, port)
			}
		}
		for _, port := range held {
			require.True(t, s.Release(port))
		}
	}
	stop.Store(true)
	readers.Wait()
	require.GreaterOrEqual(t, int(s.moves.Load()), tours)
	require.NoError(t, invariants(a, &s))
}

// find compares all lanes of a word with one subtraction, whose borrow could mark the wrong one.
func TestFewFindsExactlyThePortsThatAreIn(t *testing.T) {
	patterns := []uint16{1, 2, 0x7f, 0x80, 0xff, 0x100, 0x101, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff}
	for _, first := range patterns {
		for _, second := range patterns {
			if first == second {
				continue
			}
			var f few
			for _, port := range []uint16{first, second, 5, 0x8005, 0xff05} {
				if !f.has(port) {
					f.add(port)
				}
			}
			require.True(t, f.remove(first))
			require.False(t, f.has(first), "%#x beside %#x", first, second)
			require.False(t, f.remove(first))
			require.True(t, f.has(second), "%#x beside a gap", second)
			f.add(first)
			in := []uint16{first, second, 5, 0x8005, 0xff05}
			for port := range 1 << 16 {
				if got, want := f.has(uint16(port)), slices.Contains(in, uint16(port)); got != want {
					require.Equal(t, want, got, "%#x in %#x", port, in)
				}
			}
		}
	}
}

func TestLaneIsTheSlowSelect(t *testing.T) {
	for _, counts := range [][4]uint64{
		{4096, 4096, 4096, 4096},
		{0, 0, 0, 1},
		{1, 0, 0, 0},
		{0, 4096, 0, 4096},
		{512, 0, 1, 511},
		{64, 64, 64, 64},
		{0, 1, 1, 0},
	} {
		packed := counts[0] | counts[1]<<16 | counts[2]<<32 | counts[3]<<48
		r := uint64(0)
		for want, n := range counts {
			for rest := range n {
				k, got := lane(packed, r)
				if int(k) != want || got != rest {
					require.Equal(t, []uint64{uint64(want), rest}, []uint64{uint64(k), got}, "item %d of %d", r, counts)
				}
				r++
			}
		}
	}
}
