package waiting_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/liveheap"
	"github.com/ephemera-go/ephemera/internal/waiting"
)

func TestOffersGoInOrderOfArrivalAcrossFlows(t *testing.T) {
	var h hall
	l := waiting.NewLine(new(room), nil)
	for i := range 30 {
		h.Join(class{kind: i % 7}, "", i, uint64(i), l)
	}
	var served []int
	l.Offer(func(f *flow) waiting.Verdict {
		served = append(served, f.First().Ask)
		f.First().Give("")
		return waiting.Again
	})
	require.Len(t, served, 30)
	require.True(t, slices.IsSorted(served))
	require.True(t, l.IsEmpty())
	require.NoError(t, h.Check())
}

func TestSkippedFlowKeepsItsPlace(t *testing.T) {
	var h hall
	l := waiting.NewLine(new(room), nil)
	for i := range 12 {
		h.Join(class{kind: i % 3}, "", i, uint64(i), l)
	}
	for range 4 {
		l.Offer(func(f *flow) waiting.Verdict {
			if f.First().Ask%3 != 1 {
				return waiting.Skip
			}
			f.First().Give("")
			return waiting.Stop
		})
		require.Equal(t, 0, l.Head().First().Ask)
	}
	require.Nil(t, h.Flow(class{kind: 1}))
	require.Equal(t, 8, h.Len())
	require.NoError(t, h.Check())
}

// An owner who floods the room loses its newest places, one by one, until the shares are even.
func TestFloodKeepsNobodyOut(t *testing.T) {
	var h hall
	r := new(room)
	l := waiting.NewLine(r, nil)
	var flood []*waiter
	for i := range 100 {
		flood = append(flood, h.Join(class{i % 5, "flood"}, "flood", i, uint64(i), l))
	}
	for i := range 50 {
		w := r.Displaced("other")
		require.Same(t, flood[99-i], w, "not the newest")
		w.Give("displaced")
		h.Join(class{0, "other"}, "other", 100+i, uint64(100+i), l)
	}
	require.Nil(t, r.Displaced("other"))
	require.Nil(t, r.Displaced("flood"))
	require.NotNil(t, r.Displaced("third"))
	require.NoError(t, h.Check())
}

func TestMemoryFallsBackWithThoseWhoWait(t *testing.T) {
	t.Log("seed: rand.NewPCG(3, 1)")
	rng := rand.New(rand.NewPCG(3, 1))
	const n = 10_000
	var h hall
	lines := make([]*line, 20)
	for i := range lines {
		lines[i] = waiting.NewLine(new(room), nil)
	}
	list := make([]*waiter, n)
	before := liveheap.Bytes()
	for i := range list {
		owner := fmt.Sprint("owner", i%500)
		list[i] = h.Join(class{i % 2000, owner}, owner, i, uint64(i), lines[i%len(lines)])
	}
	full := liveheap.Bytes() - before
	require.NoError(t, h.Check())
	for to, l := range lines { // and back again
		for from := range 2000 {
			if f := h.Flow(class{from, fmt.Sprint("owner", from%500)}); (from+to)%10 == 0 {
				f.MoveTo(l)
			}
		}
	}
	require.NoError(t, h.Check())
	rng.Shuffle(n, func(i, j int) { list[i], list[j] = list[j], list[i] })
	for i, w := range list[:n-10] {
		w.Leave()
		list[i] = nil
	}
	require.NoError(t, h.Check())
	some := liveheap.Bytes() - before
	h.Fail(func(*int) string { return "" })
	clear(list)
	left := liveheap.Bytes() - before
	t.Logf("%d bytes a waiter, %d for the last ten, %d when empty", full/n, some, left)
	require.Less(t, some, full/10)
	require.Less(t, left, full/20)
	require.Zero(t, h.Len())
	runtime.KeepAlive(list)
	runtime.KeepAlive(lines)
}
