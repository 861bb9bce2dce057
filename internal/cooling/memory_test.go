package cooling_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/cooling"
	"github.com/ephemera-go/ephemera/internal/liveheap"
)

// destination has the size that the keys of a Pool have.
type destination struct{ hi, lo, last uint64 }

type queue = cooling.Queue[destination, int]

// loads are ways to fill a queue: the key and the delay of item i.
var loads = []struct {
	name    string
	ordered bool
	key     func(i int) destination
	delay   func(i int) time.Duration
	most    int // bytes an item, with a quarter more for the growth of slices
}{
	{"one delay", false, manyKeys, oneDelay, 64},
	{"many delays", false, manyKeys, manyDelays, 160},
	{"one key in order", true, oneKey, oneDelay, 84},
	{"many keys in order", true, manyKeys, oneDelay, 180},
}

func oneKey(int) destination         { return destination{last: 443} }
func manyKeys(i int) destination     { return destination{1, uint64(i), 443} }
func oneDelay(int) time.Duration     { return time.Minute }
func manyDelays(i int) time.Duration { return time.Minute + time.Duration(i) }

func whatever(uint64) bool { return true }
func none(uint64) bool     { return false }

func TestMemoryFollowsTheItems(t *testing.T) {
	for _, load := range loads {
		t.Run(load.name, func(t *testing.T) {
			const n = 20_000
			before := liveheap.Bytes()
			q := &queue{Ordered: load.ordered}
			for i := range n {
				q.Add(load.key(i), uint64(i), cooling.Kernel, int64(i), load.delay(i))
			}
			full := liveheap.Bytes() - before
			for q.Len() > n/100 {
				_, ok := q.Pop(cooling.Never - 1)
				require.True(t, ok)
			}
			some := liveheap.Bytes() - before
			for q.Len() > 0 {
				q.Pop(cooling.Never - 1)
			}
			left := liveheap.Bytes() - before
			t.Logf("%d bytes an item, %d bytes for the last hundredth, %d when empty", full/n, some, left)
			require.LessOrEqual(t, full/n, load.most)
			require.Less(t, some, full/20)
			require.Less(t, left, 16<<10) // of which most is not of q
			runtime.KeepAlive(q)
		})
	}
}

// Many classes that looked at many lines leave nothing behind when the items are gone, whatever removes them.
func TestMemoryOfPassesGoesBack(t *testing.T) {
	const n = 2000
	before := liveheap.Bytes()
	q := &queue{Ordered: true}
	for i := range n {
		q.Add(manyKeys(i), 0, cooling.Kernel, 0, time.Minute)
		for class := range 64 {
			q.TakeOldest(manyKeys(i), class, none)
		}
	}
	full := liveheap.Bytes() - before
	for i := range n {
		if i%2 == 0 {
			q.TakeOldest(manyKeys(i), 64, whatever)
		} else {
			q.RemoveIf(manyKeys(i), func(uint64, int64) bool { return true })
		}
		if i == n/2 {
			require.NoError(t, q.Check(func(destination, int, uint64) bool { return false }))
		}
	}
	left := liveheap.Bytes() - before
	t.Logf("%d bytes, %d when empty", full, left)
	require.Zero(t, q.Len())
	require.Less(t, left, 16<<10)
	runtime.KeepAlive(q)
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		q := &queue{Ordered: ordered}
		now := 0
		step := func() { // ten delays, and ten keys that have no item at times
			now++
			key, class := manyKeys(now%10), now%5
			q.Add(key, uint64(now), cooling.Kind(now%2), int64(now), time.Duration(20+now%10))
			switch now % 4 {
			case 0:
				q.TakeOldest(key, class, func(hold uint64) bool { return int(hold)%5 == class })
			case 1:
				q.RemoveIf(key, func(hold uint64, began int64) bool { return int(began) < now-5 && hold%3 == 0 })
			}
			for range 2 {
				q.Pop(int64(now))
			}
		}
		for range 1000 {
			step()
		}
		require.Zero(t, testing.AllocsPerRun(5000, step), "ordered: %v", ordered)
		require.NotZero(t, q.Len())
	}
}
