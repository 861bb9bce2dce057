package ports

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// model is the slow, obviously right Space: a map of the ports in use, and the free ones are those of the list that are
// not in it.
type model struct {
	allowed []uint16
	used    map[uint16]bool
}

func newModel(allowed []uint16) *model { return &model{allowed, map[uint16]bool{}} }

func (m *model) isFree(port uint16) bool {
	_, allowed := slices.BinarySearch(m.allowed, port)
	return allowed && !m.used[port]
}

// free lists, in ascending order, the free ports that in allows.
func (m *model) free(in *Allowed) []uint16 {
	var free []uint16
	for _, port := range m.allowed {
		if in.Contains(port) && !m.used[port] {
			free = append(free, port)
		}
	}
	return free
}

// shapes are sets that differ in what the code could get wrong: where they begin and end in a word, a block and a group,
// and whether they have holes.
var shapes = []struct {
	name  string
	ports []uint16
}{
	{"none", nil},
	{"one", []uint16{8080}},
	{"first and last", []uint16{1, 65535}},
	{"one word less a bit", span(128, 190, 1)},
	{"100 across words", span(1000, 1099, 1)},
	{"a block and a port", span(512, 1024, 1)},
	{"a group and a port", span(4095, 8192, 1)},
	{"1024-65535", span(1024, 65535, 1)},
	{"every port", span(1, 65535, 1)},
	{"every 16th", span(7, 65535, 16)},
	{"a host's", holed(32768, 60999, 8080, 33333, 40000, 40001, 60999)},
	{"three islands", slices.Concat(span(1, 3, 1), span(30000, 30200, 1), span(65530, 65535, 1))},
}

func span(first, last, step int) (ports []uint16) {
	for port := first; port <= last; port += step {
		ports = append(ports, uint16(port))
	}
	return ports
}

func holed(first, last int, holes ...uint16) []uint16 {
	return slices.DeleteFunc(span(first, last, 1), func(port uint16) bool { return slices.Contains(holes, port) })
}

// invariants walks all of s and returns what is wrong with it.
func invariants(a *Allowed, s *Space) error {
	d := s.dense
	if d == nil {
		if len(s.list) > listMax {
			return fmt.Errorf("a list of %d ports, more than %d", len(s.list), listMax)
		}
		for i, port := range s.list {
			if !a.Contains(port) {
				return fmt.Errorf("port %d is in use and not allowed", port)
			}
			if i > 0 && s.list[i-1] >= port {
				return fmt.Errorf("the list does not ascend at %d: %v", i, s.list)
			}
		}
		return nil
	}
	if s.list != nil {
		return fmt.Errorf("a list of %d ports beside the bits", len(s.list))
	}
	if used := a.n - d.n; used <= listMax/2 {
		return fmt.Errorf("only %d ports in use, and no list", used)
	}
	if len(d.words) != len(a.words) {
		return fmt.Errorf("%d words where %d are allowed", len(d.words), len(a.words))
	}
	n := 0
	blocks := make([]uint16, len(d.blocks))
	var groups [maxGroups]uint16
	for i, w := range d.words {
		if w&^a.words[i] != 0 {
			return fmt.Errorf("word %d has free ports that are not allowed: %#x", i, w&^a.words[i])
		}
		count := bits.OnesCount64(w)
		n += count
		blocks[i/8] += uint16(count)
		groups[i/64] += uint16(count)
	}
	switch {
	case n != d.n:
		return fmt.Errorf("%d ports are free, %d are counted", n, d.n)
	case !slices.Equal(blocks, d.blocks):
		return fmt.Errorf("the blocks hold %d, counted are %d", blocks, d.blocks)
	case groups != d.groups:
		return fmt.Errorf("the groups hold %d, counted are %d", groups, d.groups)
	}
	return nil
}

// same returns where s and m differ about the ports in use.
func same(a *Allowed, s *Space, m *model) error {
	if s.Len(a) != len(m.used) {
		return fmt.Errorf("%d ports in use, want %d", s.Len(a), len(m.used))
	}
	for port := range 1 << 16 {
		if got, want := s.Contains(a, uint16(port)), m.used[uint16(port)]; got != want {
			return fmt.Errorf("port %d: in use %t, want %t", port, got, want)
		}
	}
	return nil
}

// fills are the numbers of ports in use that a test drives a Space of n ports through, up and down: the list, both sides
// of both thresholds, half, nearly full, full and empty.
func fills(n int) []int {
	all := []int{
		listMax / 4, listMax, listMax + 1, listMax, listMax/2 + 1, listMax / 2, listMax + 2, listMax/2 - 1,
		n / 2, n - 1, n, n - n/10, n, listMax, 0, 3 * listMax, 0,
	}
	for i := range all {
		all[i] = max(0, min(all[i], n))
	}
	return all
}

func TestSpaceDoesWhatTheModelDoes(t *testing.T) {
	for i, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			t.Logf("seed: rand.NewPCG(1, %d)", i)
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			a, m := Allow(slices.Values(shape.ports)), newModel(shape.ports)
			var s Space
			for _, target := range fills(len(shape.ports)) {
				drive(t, rng, a, &s, m, target)
				require.NoError(t, invariants(a, &s), "at %d of %d", target, a.n)
				require.NoError(t, same(a, &s, m), "at %d of %d", target, a.n)
			}
			require.Zero(t, s.Len(a))
			require.Nil(t, s.dense, "an empty Space still has its bits")
		})
	}
}

// drive does random operations, most of them towards target ports in use and the rest on any port, on s and on m, until
// both have that many.
func drive(t *testing.T, rng *rand.Rand, a *Allowed, s *Space, m *model, target int) {
	ins := make([]*Allowed, len(shapes))
	for i, shape := range shapes {
		ins[i] = Allow(slices.Values(shape.ports))
	}
	var held []uint16 // what m has in use, to pick from
	for port := range m.used {
		held = append(held, port)
	}
	slices.Sort(held)
	wrong := func(format string, args ...any) {
		t.Helper()
		require.Fail(t, fmt.Sprintf(format, args...), "%d of %d in use, on the way to %d", len(held), a.n, target)
	}
	for step, settle := 0, 50; settle > 0 || len(held) != target; step++ {
		if len(held) == target {
			settle--
		}
		op := rng.IntN(16)
		if settle <= 0 { // straight there
			op = 15
		}
		port, ok := uint16(rng.Uint32()), false // any port at all, allowed or not
		switch {
		case op == 0:
			if ok = s.Reserve(a, port); ok != m.isFree(port) {
				wrong("Reserve(%d) = %t", port, ok)
			}
		case op == 1:
			if s.Contains(a, port) != m.used[port] {
				wrong("Contains(%d) = %t", port, !m.used[port])
			}
		case op == 2 && len(held) > 0:
			if port = held[rng.IntN(len(held))]; s.Reserve(a, port) || !s.Contains(a, port) {
				wrong("Reserve(%d) took a port that is in use", port)
			}
		case op == 3 && rng.IntN(1+a.n) < 100: // a tour of all ports, so the more of them the more rarely
			in := ins[rng.IntN(len(ins))]
			free := m.free(in)
			port, ok = s.AcquireIn(a, in, rng.Uint64)
			if ok != (len(free) > 0) || ok && !slices.Contains(free, port) {
				wrong("AcquireIn gave %d, %t: %d are free", port, ok, len(free))
			}
		case op == 4:
			if !m.used[port] && s.Release(a, port) {
				wrong("Release(%d) of a port that is not in use", port)
			}
		case len(held) < target || op == 5: // at times when nothing is free, too
			port, ok = s.Acquire(a, rng.Uint64)
			if ok != (len(held) < a.n) || ok && !m.isFree(port) {
				wrong("Acquire gave %d, %t", port, ok)
			}
		case len(held) > 0:
			i := rng.IntN(len(held))
			port = held[i]
			if !s.Release(a, port) || s.Release(a, port) {
				wrong("Release(%d) did not work exactly once", port)
			}
			held[i] = held[len(held)-1]
			held = held[:len(held)-1]
			delete(m.used, port)
		}
		if ok {
			held, m.used[port] = append(held, port), true
		}
		if s.Len(a) != len(held) {
			wrong("Len is %d", s.Len(a))
		}
		if step%64 == 0 || len(held) < 2*listMax && a.n < 10_000 || len(held) == listMax {
			if err := invariants(a, s); err != nil {
				wrong("step %d: %v", step, err)
			}
		}
	}
}

func TestSpaceChangesItsFormOnlyAtTheThresholds(t *testing.T) {
	a := Allow(slices.Values(span(1024, 65535, 1)))
	var s Space
	for n := range 2 * listMax {
		require.Equal(t, n > listMax, s.dense != nil, "%d in use, going up", n)
		require.True(t, s.Reserve(a, uint16(5000+7*n)))
	}
	for n := 2 * listMax; n > 0; n-- {
		require.Equal(t, n > listMax/2, s.dense != nil, "%d in use, going down", n)
		require.True(t, s.Release(a, uint16(5000+7*(n-1))))
	}
	require.Zero(t, s.Len(a))
}

func TestTheBitsOfAFullSpaceTakeLittleMoreThanOnePerPort(t *testing.T) {
	a := Allow(slices.Values(span(1024, 65535, 1)))
	d := newDense(a)
	bytes := 8*cap(d.words) + 2*cap(d.blocks) + 2*len(d.groups)
	require.LessOrEqual(t, float64(8*bytes)/float64(a.n), 1.3)
}

func TestInvariantsSeeDamage(t *testing.T) {
	a := Allow(slices.Values(span(1000, 1099, 1)))
	fill := func(n int) *Space {
		s := &Space{}
		for port := range n {
			require.True(t, s.Reserve(a, uint16(1000+port)))
		}
		require.NoError(t, invariants(a, s))
		return s
	}
	for name, damaged := range map[string]func() *Space{
		"order":     func() *Space { s := fill(5); slices.Reverse(s.list); return s },
		"a double":  func() *Space { s := fill(5); s.list[0] = s.list[1]; return s },
		"a foreign": func() *Space { s := fill(5); s.list[0] = 999; return s },
		"n":         func() *Space { s := fill(80); s.dense.n++; return s },
		"a block":   func() *Space { s := fill(80); s.dense.blocks[0]++; return s },
		"a group":   func() *Space { s := fill(80); s.dense.groups[1]++; return s },
		"a bit":     func() *Space { s := fill(80); s.dense.words[0] ^= 1 << 63; return s },
		"too few":   func() *Space { return &Space{dense: newDense(a)} },
		"both":      func() *Space { s := fill(80); s.list = []uint16{1000}; return s },
	} {
		require.Error(t, invariants(a, damaged()), name)
	}
}
