package waiting_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ephemera-go/ephemera/internal/waiting"
)

// class is what the waiters of a flow have in common. The owner is a part of it, as in a Pool.
type class struct {
	kind  int
	owner string
}

type (
	hall   = waiting.Hall[class, int, string]
	room   = waiting.Room[class, int, string]
	line   = waiting.Line[class, int, string]
	flow   = waiting.Flow[class, int, string]
	waiter = waiting.Waiter[class, int, string]
)

// entry is somebody who waits, in a list that is in order of arrival and obviously right.
type entry struct {
	id    int
	class class
	line  int
	w     *waiter
}

// Two rooms, one with two lines and one with three.
var roomOf = []int{0, 0, 1, 1, 1}

type machine struct {
	hall  hall
	rooms [2]*room
	lines []*line
	heads []*flow // of each line, as of the last call of changed; nil if it was empty
	list  []entry
	ids   int
	busy  bool // in an offer
}

func newMachine() *machine {
	m := &machine{rooms: [2]*room{new(room), new(room)}, heads: make([]*flow, len(roomOf))}
	for i, in := range roomOf {
		m.lines = append(m.lines, waiting.NewLine(m.rooms[in], func() {
			if l := m.lines[i]; l.IsEmpty() || m.busy {
				m.heads[i] = nil
			} else {
				m.heads[i] = l.Head()
			}
		}))
	}
	return m
}

func TestHallIsTheListInOrderOfArrival(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine()
		rt.Repeat(map[string]func(*rapid.T){
			"": m.check, "join": m.Join, "join many": m.JoinMany, "leave": m.Leave, "give": m.Give, "move": m.MoveTo,
			"offer": m.Offer, "offer again": m.Offer, "displace": m.Displace, "fail": m.Fail,
		})
	})
}

func drawOwner(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "a", "a", "a", "b", "b", "c", "d"}).Draw(t, "owner")
}

func (m *machine) Join(t *rapid.T) {
	m.join(class{rapid.IntRange(0, 2).Draw(t, "kind"), drawOwner(t)}, m.drawLine(t))
}

func (m *machine) JoinMany(t *rapid.T) {
	for range rapid.IntRange(5, 20).Draw(t, "count") {
		m.Join(t)
	}
}

// join has somebody wait in a line, or where the flow of its class does.
func (m *machine) join(c class, to int) {
	m.ids++
	w := m.hall.Join(c, c.owner, m.ids, uint64(m.ids), m.lines[to])
	if i := slices.IndexFunc(m.list, func(e entry) bool { return e.class == c }); i >= 0 {
		to = m.list[i].line
	}
	m.list = append(m.list, entry{m.ids, c, to, w})
}

func (m *machine) drawLine(t *rapid.T) int { return rapid.IntRange(0, len(m.lines)-1).Draw(t, "line") }

func (m *machine) drawWaiter(t *rapid.T) int {
	if len(m.list) == 0 {
		t.Skip("nobody waits")
	}
	return rapid.IntRange(0, len(m.list)-1).Draw(t, "who")
}

func (m *machine) Leave(t *rapid.T) {
	i := m.drawWaiter(t)
	m.list[i].w.Leave()
	require.Empty(t, m.list[i].w.Got())
	m.list = slices.Delete(m.list, i, i+1)
}

func (m *machine) Give(t *rapid.T) {
	i := m.drawWaiter(t)
	m.list[i].w.Give("a gift")
	m.left(t, i, "a gift")
}

// left notes that somebody was given something, and so has left.
func (m *machine) left(t *rapid.T, i int, what string) {
	require.Len(t, m.list[i].w.Got(), 1)
	require.Equal(t, what, <-m.list[i].w.Got())
	m.list = slices.Delete(m.list, i, i+1)
}

// MoveTo has all waiters of a class wait elsewhere, or again where they wait.
func (m *machine) MoveTo(t *rapid.T) {
	c, to := m.list[m.drawWaiter(t)].class, m.drawLine(t)
	m.moveTo(m.hall.Flow(c), c, to)
}

func (m *machine) moveTo(f *flow, c class, to int) {
	f.MoveTo(m.lines[to])
	for i := range m.list {
		if m.list[i].class == c {
			m.list[i].line = to
		}
	}
}

// next returns the first in a line of those whose class is not skipped, -1 if there is nobody.
func (m *machine) next(in int, skipped map[class]bool) int {
	return slices.IndexFunc(m.list, func(e entry) bool { return e.line == in && !skipped[e.class] })
}

// Offer offers something to a line. Each class has its own answer each time: it is served, moves, is skipped, or is
// one for whom nothing is there.
func (m *machine) Offer(t *rapid.T) {
	in := m.drawLine(t)
	stops := rapid.Bool().Draw(t, "may stop")
	skipped, ended := map[class]bool{}, false
	m.busy = true
	m.lines[in].Offer(func(f *flow) waiting.Verdict {
		i := m.next(in, skipped)
		require.False(t, ended, "an offer after Stop")
		require.GreaterOrEqual(t, i, 0, "nobody is left")
		require.Equal(t, m.list[i].id, f.First().Ask, "others came first")
		require.False(t, m.lines[in].IsEmpty())
		c := m.list[i].class
		switch verdict := rapid.IntRange(0, 9).Draw(t, "verdict"); {
		case verdict < 5:
			f.First().Give("an offer")
			m.left(t, i, "an offer")
			return waiting.Again
		case verdict < 6:
			if to := m.drawLine(t); to != in {
				m.moveTo(f, c, to)
				return waiting.Again
			}
		case verdict < 7 && stops:
			ended = true
			return waiting.Stop
		}
		skipped[c] = true
		return waiting.Skip
	})
	m.busy = false
	require.True(t, ended || m.next(in, skipped) < 0, "the offer ended too early")
	for i, l := range m.lines {
		if m.heads[i] = nil; !l.IsEmpty() {
			m.heads[i] = l.Head()
		}
	}
}

// Displace has one more of an owner want a place in a room, all of which are used.
func (m *machine) Displace(t *rapid.T) {
	in, owner := rapid.IntRange(0, 1).Draw(t, "room"), drawOwner(t)
	has, most := map[string]int{}, 0
	for _, e := range m.list {
		if roomOf[e.line] == in {
			has[e.class.owner]++
			most = max(most, has[e.class.owner])
		}
	}
	if most == 0 {
		t.Skip("the room is empty")
	}
	got := m.rooms[in].Displaced(owner)
	if most < has[owner]+2 {
		require.Nil(t, got, "the shares would not become more even")
		return
	}
	for i, e := range slices.Backward(m.list) {
		if roomOf[e.line] == in && has[e.class.owner] == most {
			require.Same(t, e.w, got, "not the newest of those who have the most")
			got.Give("displaced")
			m.left(t, i, "displaced")
			m.join(class{rapid.IntRange(0, 2).Draw(t, "kind"), owner}, slices.Index(roomOf, in))
			return
		}
	}
}

func (m *machine) Fail(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "really") > 0 {
		t.Skip("too often nobody would wait")
	}
	m.hall.Fail(func(ask *int) string { return string(rune('A' + *ask%26)) })
	for len(m.list) > 0 {
		m.left(t, 0, string(rune('A'+m.list[0].id%26)))
	}
}

func (m *machine) check(t *rapid.T) {
	require.NoError(t, m.hall.Check())
	require.Equal(t, len(m.list), m.hall.Len())
	flows := map[class][]entry{}
	inRoom := [2]int{}
	for _, e := range m.list {
		flows[e.class] = append(flows[e.class], e)
		inRoom[roomOf[e.line]]++
	}
	require.Equal(t, inRoom, [2]int{m.rooms[0].Len(), m.rooms[1].Len()})
	for c, list := range flows {
		f := m.hall.Flow(c)
		require.NotNil(t, f)
		require.Same(t, list[0].w, f.First())
		require.Equal(t, uint64(list[0].id), f.Arrival())
		require.Equal(t, len(list), f.Len())
		require.Equal(t, c.owner, f.Owner())
		require.Same(t, m.lines[list[0].line], f.Line())
		require.Same(t, m.rooms[roomOf[list[0].line]], f.Room())
	}
	for i, l := range m.lines {
		m.checkLine(t, i, l, flows)
	}
	require.Nil(t, m.hall.Flow(class{7, "nobody"}))
}

func (m *machine) checkLine(t *rapid.T, at int, l *line, flows map[class][]entry) {
	want, got := 0, 0
	for _, list := range flows {
		if list[0].line == at {
			want++
		}
	}
	for f := range l.Flows {
		require.Same(t, l, f.Line())
		got++
	}
	require.Equal(t, want, got)
	require.Equal(t, want == 0, l.IsEmpty())
	require.Same(t, m.rooms[roomOf[at]], l.Room())
	first := m.next(at, nil)
	if first < 0 {
		require.Nil(t, m.heads[at], "the line is empty, and nobody was told")
		return
	}
	require.Same(t, m.list[first].w, l.Head().First())
	require.Same(t, l.Head(), m.heads[at], "the head has become another one, and nobody was told")
}
