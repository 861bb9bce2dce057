package ports

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// model is a slow and obviously correct Space: a list of the allowed ports, and a map of those in use.
type model struct {
	allowed []uint16
	used    map[uint16]bool
}

func newModel(allowed []uint16) *model { return &model{allowed, map[uint16]bool{}} }

func (m *model) isFree(port uint16) bool {
	_, allowed := slices.BinarySearch(m.allowed, port)
	return allowed && !m.used[port]
}

// free lists the free ports that in allows, in ascending order.
func (m *model) free(in *Allowed) []uint16 {
	var free []uint16
	for _, port := range m.allowed {
		if in.Contains(port) && !m.used[port] {
			free = append(free, port)
		}
	}
	return free
}

// shapes are sets that begin and end at different places of a word, a block and a group, with and without holes.
var shapes = []struct {
	name  string
	ports []uint16
}{
	{"none", nil},
	{"one", []uint16{8080}},
	{"first and last", []uint16{1, 65535}},
	{"one word minus a bit", span(128, 190, 1)},
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

// invariants walks through all of s and returns the first contradiction.
func invariants(a *Allowed, s *Space) error {
	d := s.dense.Load()
	n := 0
	seen := map[uint16]bool{}
	for i, w := range s.few.words {
		for lane := range 4 {
			port := uint16(w >> (16 * lane))
			switch {
			case port == 0:
				continue
			case uint32(i) >= s.few.top:
				return fmt.Errorf("port %d lies in word %d of %d", port, i, s.few.top)
			case !a.Contains(port):
				return fmt.Errorf("port %d is in use and not allowed", port)
			case seen[port]:
				return fmt.Errorf("port %d is in use twice", port)
			}
			seen[port] = true
			n++
		}
	}
	if n != s.few.n {
		return fmt.Errorf("%d ports are in use, %d are counted", n, s.few.n)
	}
	if d == nil {
		return nil
	}
	if n != 0 {
		return fmt.Errorf("%d ports in few besides those in dense", n)
	}
	if used := a.n - d.n; used <= fewAgain {
		return fmt.Errorf("dense has only %d ports in use", used)
	}
	if len(d.words) < len(a.words) {
		return fmt.Errorf("dense has %d words, the allowed ports have %d", len(d.words), len(a.words))
	}
	blocks := make([]uint64, len(d.blocks))
	groups := make([]uint64, len(d.groups))
	for i, w := range d.words {
		if i >= len(a.words) && w != 0 || i < len(a.words) && w&^a.words[i] != 0 {
			return fmt.Errorf("word %d has free ports that are not allowed: %#x", i, w)
		}
		count := bits.OnesCount64(w)
		n += count
		blocks[i/32] += uint64(count) << (i / 8 % 4 * 16)
		groups[i/256] += uint64(count) << (i / 64 % 4 * 16)
	}
	switch {
	case n != d.n:
		return fmt.Errorf("%d ports are free, %d are counted", n, d.n)
	case !slices.Equal(blocks, d.blocks):
		return fmt.Errorf("the free ports per block are %x, counted are %x", blocks, d.blocks)
	case !slices.Equal(groups, d.groups[:]):
		return fmt.Errorf("the free ports per group are %x, counted are %x", groups, d.groups)
	}
	return nil
}

// same returns the first difference between the ports in use of s and of m.
func same(a *Allowed, s *Space, m *model) error {
	if s.Len() != len(m.used) {
		return fmt.Errorf("%d ports in use, want %d", s.Len(), len(m.used))
	}
	for port := range 1 << 16 {
		if got, want := s.Contains(uint16(port)), m.used[uint16(port)]; got != want {
			return fmt.Errorf("port %d: in use %t, want %t", port, got, want)
		}
	}
	return nil
}

// fills returns numbers of ports in use for a Space of n ports, up and down: few, both sides of both thresholds, half,
// nearly full, full and empty.
func fills(n int) []int {
	all := []int{
		fewPorts / 4, fewPorts, fewPorts + 1, fewPorts, fewAgain + 1, fewAgain, fewPorts + 2, fewAgain - 1,
		n / 2, n - 1, n, n - n/10, n, fewPorts, 0, 3 * fewPorts, 0,
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
			s.Use(a)
			for _, target := range fills(len(shape.ports)) {
				drive(t, rng, a, &s, m, target)
				require.NoError(t, invariants(a, &s), "at %d of %d", target, a.n)
				require.NoError(t, same(a, &s, m), "at %d of %d", target, a.n)
			}
			require.Zero(t, s.Len())
			require.Nil(t, s.dense.Load(), "an empty Space still has its bits")
		})
	}
}

// drive does the same random operations on s and on m, until both have target ports in use. Most operations lead
// towards the target, the rest work on any port.
func drive(t *testing.T, rng *rand.Rand, a *Allowed, s *Space, m *model, target int) {
	ins := make([]*Allowed, len(shapes))
	for i, shape := range shapes {
		ins[i] = Allow(slices.Values(shape.ports))
	}
	var held []uint16 // the ports in use of m
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
		port, ok := uint16(rng.Uint32()), false // any port, allowed or not
		switch {
		case op == 0:
			if ok = s.Reserve(port); ok != m.isFree(port) {
				wrong("Reserve(%d) = %t", port, ok)
			}
		case op == 1:
			if s.Contains(port) != m.used[port] {
				wrong("Contains(%d) = %t", port, !m.used[port])
			}
		case op == 2 && len(held) > 0:
			if port = held[rng.IntN(len(held))]; s.Reserve(port) || !s.Contains(port) {
				wrong("Reserve(%d) took a port that is in use", port)
			}
		case op == 3 && rng.IntN(1+a.n) < 100: // m.free looks at all ports, so rarely if there are many
			in := ins[rng.IntN(len(ins))]
			free := m.free(in)
			port, ok = s.AcquireIn(in, rng.Uint64)
			if ok != (len(free) > 0) || ok && !slices.Contains(free, port) {
				wrong("AcquireIn gave %d, %t: %d are free", port, ok, len(free))
			}
		case op == 4:
			if !m.used[port] && s.Release(port) {
				wrong("Release(%d) of a port that is not in use", port)
			}
		case len(held) < target || op == 5: // op 5 also if no port is free
			port, ok = s.Acquire(rng.Uint64(), rng.Uint64)
			if ok != (len(held) < a.n) || ok && !m.isFree(port) {
				wrong("Acquire gave %d, %t", port, ok)
			}
		case len(held) > 0:
			i := rng.IntN(len(held))
			port = held[i]
			if !s.Release(port) || s.Release(port) {
				wrong("Release(%d) did not work exactly once", port)
			}
			held[i] = held[len(held)-1]
			held = held[:len(held)-1]
			delete(m.used, port)
		}
		if ok {
			held, m.used[port] = append(held, port), true
		}
		if s.Len() != len(held) {
			wrong("Len is %d", s.Len())
		}
		if step%64 == 0 || len(held) < 2*fewPorts && a.n < 10_000 || len(held) == fewPorts {
			if err := invariants(a, s); err != nil {
				wrong("step %d: %v", step, err)
			}
		}
	}
}

func TestSpaceChangesItsFormOnlyAtTheThresholds(t *testing.T) {
	a := Allow(slices.Values(span(1024, 65535, 1)))
	var s Space
	s.Use(a)
	for n := range 2 * fewPorts {
		require.Equal(t, n > fewPorts, s.dense.Load() != nil, "%d in use, going up", n)
		require.True(t, s.Reserve(uint16(5000+7*n)))
	}
	for n := 2 * fewPorts; n > 0; n-- {
		require.Equal(t, n > fewAgain, s.dense.Load() != nil, "%d in use, going down", n)
		require.True(t, s.Release(uint16(5000+7*(n-1))))
	}
	require.Zero(t, s.Len())
}

func TestTheBitsOfAFullSpaceTakeLittleMoreThanOnePerPort(t *testing.T) {
	a := Allow(slices.Values(span(1024, 65535, 1)))
	d := newDense(a, false)
	bytes := int(unsafe.Sizeof(*d)) + 8*(cap(d.words)+cap(d.blocks))
	require.LessOrEqual(t, float64(8*bytes)/float64(a.n), 1.3)
}

func TestInvariantsSeeDamage(t *testing.T) {
	a := Allow(slices.Values(span(1000, 1099, 1)))
	fill := func(n int) *Space {
		s := &Space{}
		s.Use(a)
		for port := range n {
			require.True(t, s.Reserve(uint16(1000+port)))
		}
		require.NoError(t, invariants(a, s))
		return s
	}
	for name, damaged := range map[string]func() *Space{
		"a double":  func() *Space { s := fill(5); s.few.words[1] = s.few.words[0] & 0xffff; return s },
		"a foreign": func() *Space { s := fill(5); s.few.words[0]++; s.few.words[0] -= 1001; return s },
		"few":       func() *Space { s := fill(5); s.few.n++; return s },
		"the top":   func() *Space { s := fill(5); s.few.top = 1; return s },
		"n":         func() *Space { s := fill(80); s.dense.Load().n++; return s },
		"a block":   func() *Space { s := fill(80); s.dense.Load().blocks[0]++; return s },
		"a group":   func() *Space { s := fill(80); s.dense.Load().groups[1]++; return s },
		"a bit":     func() *Space { s := fill(80); s.dense.Load().words[0] ^= 1 << 63; return s },
		"too few":   func() *Space { s := new(Space); s.Use(a); s.dense.Store(newDense(a, false)); return s },
		"both":      func() *Space { s := fill(80); s.few.add(1000); return s },
	} {
		require.Error(t, invariants(a, damaged()), name)
	}
}
