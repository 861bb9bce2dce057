package shrink_test

import (
	"cmp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ephemera-go/ephemera/internal/shrink"
)

type element struct{ order, place int }

func (e *element) Before(other *element) bool { return e.order < other.order }
func (e *element) Place() *int                { return &e.place }

type heapMachine struct {
	h    shrink.Heap[*element]
	want []*element // sorted
}

func TestHeapIsTheSortedSlice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &heapMachine{}
		rt.Repeat(map[string]func(*rapid.T){
			"": m.check, "add": m.Add, "add many": m.AddMany, "remove": m.Remove, "remove many": m.RemoveMany,
			"remove first": m.RemoveFirst, "move": m.Move,
		})
		for len(m.want) > 0 {
			m.RemoveFirst(rt)
			m.checkCapacity(rt)
		}
	})
}

func drawOrder(t *rapid.T) int { return rapid.IntRange(-100, 100).Draw(t, "order") }

func (m *heapMachine) sort() {
	slices.SortStableFunc(m.want, func(a, b *element) int { return cmp.Compare(a.order, b.order) })
}

func (m *heapMachine) draw(t *rapid.T) *element {
	if len(m.want) == 0 {
		t.Skip("empty")
	}
	return m.want[rapid.IntRange(0, len(m.want)-1).Draw(t, "element")]
}

func (m *heapMachine) Add(t *rapid.T) {
	e := &element{drawOrder(t), -1}
	m.h.Add(e)
	m.want = append(m.want, e)
	m.sort()
}

func (m *heapMachine) AddMany(t *rapid.T) {
	order, step := drawOrder(t), rapid.IntRange(-7, 7).Draw(t, "step")
	for i := range rapid.IntRange(50, 200).Draw(t, "count") {
		e := &element{order + i*step, -1}
		m.h.Add(e)
		m.want = append(m.want, e)
	}
	m.sort()
}

func (m *heapMachine) remove(e *element) {
	m.h.Remove(e)
	m.want = slices.DeleteFunc(m.want, func(other *element) bool { return other == e })
}

func (m *heapMachine) Remove(t *rapid.T) { m.remove(m.draw(t)) }

func (m *heapMachine) RemoveMany(t *rapid.T) {
	for range rapid.IntRange(50, 200).Draw(t, "count") {
		if len(m.want) == 0 {
			return
		}
		m.remove(m.want[len(m.want)*2/3])
		m.checkCapacity(t)
	}
}

func (m *heapMachine) RemoveFirst(t *rapid.T) {
	if len(m.want) == 0 {
		t.Skip("empty")
	}
	require.Equal(t, m.want[0].order, m.h[0].order)
	m.remove(m.h[0])
}

// Move gives an element another order.
func (m *heapMachine) Move(t *rapid.T) {
	e := m.draw(t)
	e.order = drawOrder(t)
	m.h.Moved(e)
	m.sort()
}

func (m *heapMachine) check(t *rapid.T) {
	require.Len(t, m.h, len(m.want))
	in := map[*element]bool{}
	for i, e := range m.h {
		if e.place != i || i > 0 && e.Before(m.h[(i-1)/2]) {
			require.Fail(t, "not in heap order", "element %d notes %d", i, e.place)
		}
		in[e] = true
	}
	for _, e := range m.want {
		if !in[e] {
			require.Fail(t, "lost", "%v", e)
		}
	}
	if len(m.want) > 0 {
		require.Equal(t, m.want[0].order, m.h[0].order)
	}
	m.checkCapacity(t)
}

// checkCapacity checks that the capacity falls with the length, and that what lies past the end keeps nothing alive.
func (m *heapMachine) checkCapacity(t *rapid.T) {
	n, c := len(m.h), cap(m.h)
	require.LessOrEqual(t, c, max(64, 4*n+3))
	for i, e := range m.h[:c][n:] {
		if e != nil {
			require.Fail(t, "kept alive", "%d past the end", i)
		}
	}
}
