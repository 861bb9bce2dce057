package cooling_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/cooling"
)

// The cost of TakeOldest is what it asks fits. Each of 64 classes asks about an item once, while others come and go,
// and after most are gone.
func TestEachClassPassesAnItemOnlyOnce(t *testing.T) {
	q := &queue{Ordered: true}
	const items, classes = 300, 64
	var asked [classes][items]int
	ask := func() {
		for class := range classes {
			_, ok := q.TakeOldest(oneKey(0), class, func(hold uint64) bool {
				asked[class][hold]++
				return false
			})
			require.False(t, ok)
		}
	}
	for i := range items {
		q.Add(oneKey(0), uint64(i), cooling.Kernel, int64(i), time.Duration(100+i%7))
		ask()
		switch {
		case i%3 == 0:
			q.Pop(int64(i))
		case i%10 == 1:
			q.RemoveIf(oneKey(0), func(hold uint64, _ int64) bool { return hold == uint64(i) })
		}
	}
	require.Greater(t, q.Len(), items/2)
	q.RemoveIf(oneKey(0), func(hold uint64, _ int64) bool { return hold%10 != 0 })
	require.NotZero(t, q.Len())
	ask()
	for class := range classes {
		for hold, times := range asked[class] {
			require.Equal(t, 1, times, "class %d asked about %d", class, hold)
		}
	}
}

// A new class replaces the one that was remembered first, so what more than 64 classes remember stays bounded.
func TestMoreClassesThanAreRememberedFindTheSame(t *testing.T) {
	q := &queue{Ordered: true}
	for i := range uint64(200) {
		q.Add(oneKey(0), i, cooling.Firm, 0, -1)
	}
	is := func(class int, hold uint64) bool { return hold == uint64(199-class) }
	for class := range 200 {
		_, ok := q.TakeOldest(oneKey(0), class+1000, none)
		require.False(t, ok)
		got, ok := q.TakeOldest(oneKey(0), class, func(hold uint64) bool { return is(class, hold) })
		require.True(t, ok)
		require.Equal(t, uint64(199-class), got.Hold)
		require.NoError(t, q.Check(func(_ destination, class int, hold uint64) bool { return is(class, hold) }))
	}
}
