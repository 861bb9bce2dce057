package tuple_test

import (
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ephemera-go/ephemera/tuple"
)

// The operations that only package dialer uses.

// drawTime draws for how long others have a tuple: no time, some time, or until Claim, Free or FreeUnless.
func (m *machine) drawTime(t *rapid.T) (d time.Duration, until int64) {
	switch d = rapid.SampledFrom([]time.Duration{0, -1, -time.Minute, 16 * time.Second, time.Minute}).Draw(t, "for"); {
	case d < 0:
		return d, never
	case d == 0:
		return d, 0
	}
	return d, now() + int64(d)
}

// Yield ends the use of a tuple that others turn out to have.
func (m *machine) Yield(t *rapid.T) {
	u := m.drawTuple(t)
	h := m.held[m.key(u)]
	want := h != nil && h.until == 0
	d, until := m.drawTime(t)
	require.Equal(t, want, only.Yield(m.pool, u, d), "Yield(%v, %v)", u, d)
	switch {
	case !want:
	case d == 0:
		m.drop(m.key(u))
	default:
		m.enter(h.tuple, &holding{tuple: h.tuple, until: until, taken: true})
	}
}

// Take makes a free tuple taken.
func (m *machine) Take(t *rapid.T) {
	u := m.drawTuple(t)
	d, until := m.drawTime(t)
	want := m.stateOf(u) == tuple.Free && d != 0
	require.Equal(t, want, only.Take(m.pool, u, d), "Take(%v, %v)", u, d)
	if want {
		m.enter(u, &holding{tuple: u, until: until, taken: true})
	}
}

// Claim takes a tuple by name, even if it is taken or retired for the kernel.
func (m *machine) Claim(t *rapid.T) {
	u, owner := m.drawTuple(t), rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "owner")
	state, h := m.stateOf(u), m.held[m.key(u)]
	want := (state == tuple.Free || h.mayEnd()) && m.isHandedOut(u)
	was, ok := only.Claim(m.pool, u, owner)
	require.Equal(t, state, was, "Claim(%v)", u)
	require.Equal(t, want, ok, "Claim(%v), which is %v", u, state)
	if want {
		m.enter(u, &holding{tuple: u, owner: owner})
	}
}

// Free frees a tuple that the kernel no longer holds.
func (m *machine) Free(t *rapid.T) {
	u := m.drawTuple(t)
	want := m.held[m.key(u)].mayEnd()
	require.Equal(t, want, only.Free(m.pool, u), "Free(%v)", u)
	if want {
		m.drop(m.key(u))
	}
}

// FreeUnless frees all tuples towards a destination that the kernel no longer holds.
func (m *machine) FreeUnless(t *rapid.T) {
	dst := rapid.SampledFrom(machineDsts).Draw(t, "dst")
	odd := rapid.Uint16Range(0, 1).Draw(t, "whose ports are odd")
	want := 0
	for k, h := range m.held {
		if k.Dst() == m.scope(dst) && h.mayEnd() && k.Src().Port()%2 != odd {
			m.drop(k)
			want++
		}
	}
	require.Equal(t, want, only.FreeUnless(m.pool, dst, 0, func(u tuple.Tuple) bool {
		require.Equal(t, m.scope(dst), u.Dst(), "a tuple is named as All names it")
		return u.Src().Port()%2 == odd
	}))
}
