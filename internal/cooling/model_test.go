package cooling_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ephemera-go/ephemera/internal/cooling"
)

// model is a Queue that is obviously right: a list in the order of arrival.
type model []modelItem

type modelItem struct {
	cooling.Item[string]
	began int64
}

func (m *model) take(i int) cooling.Item[string] {
	item := (*m)[i].Item
	*m = slices.Delete(*m, i, i+1)
	return item
}

func (m *model) oldest(key string, class int) int {
	return slices.IndexFunc(*m, func(x modelItem) bool {
		return x.Key == key && x.Kind != cooling.Taken && fits(class, x.Hold)
	})
}

func (m *model) next(of func(key string) bool) int64 {
	next := cooling.Never
	for _, x := range *m {
		if of(x.Key) {
			next = min(next, x.Until)
		}
	}
	return next
}

// A hold names the item, and in its last byte which classes it fits.
func holdOf(id int, rest byte) uint64 { return uint64(id)<<8 | uint64(rest) }

// fits reports whether a hold fits a class. Class 0 is any hold, and some classes are none.
func fits(class int, hold uint64) bool { return class == 0 || int(byte(hold))%7 == class%9 }

type machine struct {
	q       cooling.Queue[string, int]
	m       model
	now     int64
	ids     int
	delays  int // how many
	classes int
}

func TestQueueIsTheList(t *testing.T) {
	for name, ordered := range map[string]bool{"unordered": false, "ordered": true} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				m := &machine{now: rapid.Int64Range(-1000, 1000).Draw(rt, "now")}
				m.q.Ordered = ordered
				m.delays = rapid.SampledFrom([]int{2, 5, 1000}).Draw(rt, "delays")
				m.classes = rapid.SampledFrom([]int{3, 9, 200}).Draw(rt, "classes")
				rt.Repeat(map[string]func(*rapid.T){
					"": m.check, "add": m.Add, "add many": m.AddMany, "sleep": m.Sleep,
					"pop": m.Pop, "pop all": m.PopAll, "next of": m.NextOf,
					"remove": m.RemoveIf, "take oldest": m.TakeOldest, "renumber": m.Renumber,
				})
			})
		})
	}
}

func TestTimesComeBeforeNever(t *testing.T) {
	var q queue
	for _, now := range []int64{0, 1, math.MaxInt64 - 1} {
		require.Equal(t, cooling.Never-1, q.Add(oneKey(0), 0, cooling.Firm, now, math.MaxInt64))
	}
	require.Equal(t, cooling.Never-1, q.Add(oneKey(0), 0, cooling.Firm, math.MaxInt64-1, 1))
	require.Equal(t, cooling.Never-2, q.Add(oneKey(0), 0, cooling.Firm, -2, math.MaxInt64))
	require.Equal(t, cooling.Never, q.Add(oneKey(0), 0, cooling.Firm, -1, -1))
}

func drawKey(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "a", "a", "b", "c", "d"}).Draw(t, "key")
}

func (m *machine) drawDelay(t *rapid.T) time.Duration {
	special := []time.Duration{-1, -time.Hour, 0, math.MaxInt64}
	if i := rapid.IntRange(0, 20).Draw(t, "special delay"); i < len(special) {
		return special[i]
	}
	return time.Duration(10 * rapid.IntRange(1, m.delays).Draw(t, "delay"))
}

func (m *machine) Add(t *rapid.T) {
	m.add(t, drawKey(t), m.drawDelay(t), rapid.Byte().Draw(t, "hold"))
}

func (m *machine) add(t *rapid.T, key string, delay time.Duration, rest byte) {
	m.ids++
	item := cooling.Item[string]{Key: key, Hold: holdOf(m.ids, rest), Until: m.now + int64(delay)}
	item.Kind = rapid.SampledFrom([]cooling.Kind{cooling.Firm, cooling.Kernel, cooling.Taken}).Draw(t, "kind")
	began := m.now
	switch {
	case delay < 0:
		item.Until, began = cooling.Never, math.MinInt64
	case delay == math.MaxInt64 && m.now >= 0:
		item.Until, began = cooling.Never-1, -1 // cut off
	}
	require.Equal(t, item.Until, m.q.Add(key, item.Hold, item.Kind, m.now, delay))
	m.m = append(m.m, modelItem{item, began})
}

func (m *machine) AddMany(t *rapid.T) {
	key, delay := drawKey(t), m.drawDelay(t)
	each := time.Duration(m.delays / 1000) // 1 if there are many delays
	for i := range rapid.IntRange(10, 60).Draw(t, "count") {
		m.add(t, key, delay, byte(i))
		if delay > 0 && delay < time.Hour {
			delay += each
		}
	}
}

// Sleep lets time pass. Many times are equal, because all are multiples.
func (m *machine) Sleep(t *rapid.T) { m.now += int64(10 * rapid.IntRange(1, m.delays).Draw(t, "for")) }

func (m *machine) Pop(t *rapid.T) {
	m.pop(t, rapid.SampledFrom([]int64{m.now, m.now, cooling.Never}).Draw(t, "now"))
}

func (m *machine) pop(t *rapid.T, now int64) bool {
	next := m.m.next(func(string) bool { return true })
	got, ok := m.q.Pop(now)
	require.Equal(t, next <= now && next != cooling.Never, ok)
	if ok {
		i := slices.IndexFunc(m.m, func(x modelItem) bool { return x.Hold == got.Hold })
		require.GreaterOrEqual(t, i, 0)
		require.Equal(t, m.m.take(i), got)
		require.Equal(t, next, got.Until)
	}
	return ok
}

func (m *machine) PopAll(t *rapid.T) {
	for m.pop(t, m.now) {
	}
}

func (m *machine) NextOf(t *rapid.T) {
	key := drawKey(t)
	require.Equal(t, m.m.next(func(k string) bool { return k == key }), m.q.NextOf(key))
}

func (m *machine) RemoveIf(t *rapid.T) {
	key, n := drawKey(t), rapid.Uint64Range(1, 8).Draw(t, "one of")
	began := map[uint64]int64{}
	for _, x := range m.m {
		if x.Key == key && x.Kind != cooling.Firm {
			began[x.Hold] = x.began
		}
	}
	m.m = slices.DeleteFunc(m.m, func(x modelItem) bool {
		return x.Key == key && x.Kind != cooling.Firm && (x.Hold>>8)%n == 0
	})
	m.q.RemoveIf(key, func(hold uint64, from int64) bool {
		want, ok := began[hold]
		require.True(t, ok, "%d is asked about twice, or is none of those", hold)
		require.Equal(t, want, from)
		delete(began, hold)
		return (hold>>8)%n == 0
	})
	require.Empty(t, began, "not asked about")
}

func (m *machine) TakeOldest(t *rapid.T) {
	key, class := drawKey(t), rapid.IntRange(0, m.classes-1).Draw(t, "class")
	for range rapid.IntRange(1, 20).Draw(t, "times") {
		got, ok := m.q.TakeOldest(key, class, func(hold uint64) bool { return fits(class, hold) })
		i := m.m.oldest(key, class)
		require.Equal(t, m.q.Ordered && i >= 0, ok)
		if !ok {
			require.Zero(t, got)
			class = rapid.IntRange(0, m.classes-1).Draw(t, "class")
			continue
		}
		require.Equal(t, m.m.take(i), got)
	}
}

func (m *machine) Renumber(t *rapid.T) {
	by := rapid.Byte().Draw(t, "by")
	f := func(key string, hold uint64) uint64 { return hold&^0xff | uint64(byte(hold)+by+key[0]) }
	m.q.Renumber(f)
	for i := range m.m {
		m.m[i].Hold = f(m.m[i].Key, m.m[i].Hold)
	}
}

func (m *machine) check(t *rapid.T) {
	taken := 0
	for _, x := range m.m {
		if x.Kind == cooling.Taken {
			taken++
		}
	}
	require.Equal(t, []int{len(m.m), taken}, []int{m.q.Len(), m.q.Taken()})
	require.Equal(t, m.m.next(func(string) bool { return true }), m.q.Next())
	require.NoError(t, m.q.Check(func(_ string, class int, hold uint64) bool { return fits(class, hold) }))
}
