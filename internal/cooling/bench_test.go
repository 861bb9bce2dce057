package cooling_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ephemera-go/ephemera/internal/cooling"
)

// BenchmarkAddPop adds an item to 10,000 others and pops one, with a few delays and 1,000 keys.
func BenchmarkAddPop(b *testing.B) {
	for _, ordered := range []bool{false, true} {
		for _, delays := range []int64{1, 3, 5000} {
			b.Run(fmt.Sprintf("ordered=%v/delays=%d", ordered, delays), func(b *testing.B) {
				q := &queue{Ordered: ordered}
				now := int64(0)
				step := func() {
					now++
					q.Add(manyKeys(int(now%1000)), uint64(now), cooling.Kernel, now, time.Duration(10_000+now%delays))
					for q.Next() <= now {
						q.Pop(now)
					}
				}
				for range 30_000 {
					step()
				}
				b.ReportAllocs()
				for b.Loop() {
					step()
				}
			})
		}
	}
}

// BenchmarkTakeOldest adds an item behind 10,000 others of its key that do not fit, and takes it.
func BenchmarkTakeOldest(b *testing.B) {
	q := &queue{Ordered: true}
	for i := range uint64(10_000) {
		q.Add(oneKey(0), 2*i, cooling.Kernel, 0, time.Hour)
	}
	b.ReportAllocs()
	for b.Loop() {
		q.Add(oneKey(0), 1, cooling.Kernel, 0, time.Hour)
		q.TakeOldest(oneKey(0), 7, func(hold uint64) bool { return hold%2 == 1 })
	}
}
