package shrink_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ephemera-go/ephemera/internal/liveheap"
	"github.com/ephemera-go/ephemera/internal/shrink"
)

type mapMachine struct {
	m    shrink.Map[int, int]
	want map[int]int
}

func TestMapIsTheGoMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &mapMachine{want: map[int]int{}}
		rt.Repeat(map[string]func(*rapid.T){
			"": m.check, "put": m.Put, "put many": m.PutMany, "delete": m.Delete, "delete many": m.DeleteMany,
			"delete in a loop": m.DeleteInLoop, "end a loop": m.EndLoop,
		})
	})
}

func drawMapKey(t *rapid.T) int { return rapid.IntRange(0, 300).Draw(t, "key") }

func (m *mapMachine) Put(t *rapid.T) {
	key, value := drawMapKey(t), rapid.Int().Draw(t, "value")
	m.m.Put(key, value)
	m.want[key] = value
}

func (m *mapMachine) PutMany(t *rapid.T) {
	first := drawMapKey(t)
	for key := first; key < first+100; key++ {
		m.m.Put(key, -key)
		m.want[key] = -key
	}
}

func (m *mapMachine) Delete(t *rapid.T) {
	key := drawMapKey(t)
	m.m.Delete(key)
	delete(m.want, key)
}

func (m *mapMachine) DeleteMany(t *rapid.T) {
	first := drawMapKey(t)
	for key := first; key < first+150; key++ {
		m.m.Delete(key)
		delete(m.want, key)
	}
}

// DeleteInLoop deletes some of the keys in a loop over all of them, each when the loop yields it.
func (m *mapMachine) DeleteInLoop(t *rapid.T) {
	n := rapid.IntRange(2, 5).Draw(t, "all but one of")
	seen := map[int]int{}
	for key, value := range m.m.All() {
		if _, twice := seen[key]; twice {
			require.Fail(t, "yielded twice", "%d", key)
		}
		seen[key] = value
		if key%n != 0 {
			m.m.Delete(key)
		}
	}
	require.True(t, maps.Equal(m.want, seen))
	maps.DeleteFunc(m.want, func(key, _ int) bool { return key%n != 0 })
}

// EndLoop ends a loop early.
func (m *mapMachine) EndLoop(t *rapid.T) {
	n := 0
	for range m.m.All() {
		if n++; n == 2 {
			break
		}
	}
	require.Equal(t, min(2, len(m.want)), n)
}

func (m *mapMachine) check(t *rapid.T) {
	require.Equal(t, len(m.want), m.m.Len())
	require.True(t, maps.Equal(m.want, maps.Collect(m.m.All())))
	for key := range 10 {
		require.Equal(t, m.want[key], m.m.Get(key))
	}
}

// A Go map does not yield a key that the loop has deleted, or the value that a key had before the loop set another. All
// promises the same.
func TestLoopOverAMapYieldsWhatIsInIt(t *testing.T) {
	var m shrink.Map[int, int]
	for key := range 1000 {
		m.Put(key, key)
	}
	first := true
	for key, value := range m.All() {
		if first {
			first = false
			for other := range 990 {
				if other != key {
					m.Delete(other)
				}
			}
			for other := 990; other < 1000; other++ {
				m.Put(other, -other)
			}
			continue
		}
		require.GreaterOrEqual(t, key, 990, "the loop has deleted it")
		require.Equal(t, -key, value, "the loop has set another value")
	}
}

func TestMapGivesMemoryBack(t *testing.T) {
	const n = 50_000
	var m shrink.Map[int, int]
	before := liveheap.Bytes()
	for key := range n {
		m.Put(key, key)
	}
	full := liveheap.Bytes() - before
	for key := range n - 100 {
		m.Delete(key)
	}
	some := liveheap.Bytes() - before
	keys := slices.Sorted(maps.Keys(maps.Collect(m.All())))
	require.Len(t, keys, 100)
	require.Equal(t, n-100, keys[0])
	for _, key := range keys {
		m.Delete(key)
	}
	left := liveheap.Bytes() - before
	t.Logf("%d bytes, %d for the last 100, %d when empty", full, some, left)
	require.Less(t, some, full/20)
	require.Less(t, left, 16<<10)
	require.Zero(t, m.Len())
}

// A small Map that is filled and emptied all the time, as most are, keeps its memory.
func TestSmallMapDoesNotAllocate(t *testing.T) {
	var m shrink.Map[int, int]
	step := func() {
		for key := range 50 {
			m.Put(key, key)
		}
		for key := range 50 {
			m.Delete(key)
		}
	}
	step()
	require.Zero(t, testing.AllocsPerRun(100, step))
}
