package alloc_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
)

// model is a slow and obviously correct Ports: a map of the ports in use under a mutex. It lists the free ports and
// picks one of them. Tests compare a Ports with it, and it is a baseline of the benchmarks.
type model struct {
	mu      sync.Mutex
	allowed []uint16
	used    map[uint16]bool
	intN    func(n int) int
}

func newModel(allowed alloc.Set) *model {
	return &model{allowed: slices.Collect(allowed.All()), used: map[uint16]bool{}, intN: rand.IntN}
}

func (m *model) Acquire() (uint16, bool) { return m.acquire(func(uint16) bool { return true }) }

func (m *model) AcquireIn(s alloc.Set) (uint16, bool) { return m.acquire(s.Contains) }

func (m *model) acquire(wanted func(uint16) bool) (uint16, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	free := m.free(wanted)
	if len(free) == 0 {
		return 0, false
	}
	port := free[m.intN(len(free))]
	m.used[port] = true
	return port, true
}

func (m *model) free(wanted func(uint16) bool) (free []uint16) {
	for _, port := range m.allowed {
		if wanted(port) && !m.used[port] {
			free = append(free, port)
		}
	}
	return free
}

func (m *model) Reserve(port uint16) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Contains(m.allowed, port) || m.used[port] {
		return false
	}
	m.used[port] = true
	return true
}

func (m *model) Release(port uint16) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.used[port]
	delete(m.used, port)
	return was
}

// shapes are sets that differ in their span and their holes.
var shapes = []struct {
	name string
	set  alloc.Set
}{
	{"zero", alloc.Set{}},
	{"empty", alloc.RangeSet(2, 1)},
	{"one", alloc.RangeSet(8080, 8080)},
	{"ends", alloc.MustParseSet("1,65535")},
	{"100", alloc.RangeSet(1000, 1099)},
	{"600", alloc.MustParseSet("2000-2700,!2100-2200")},
	{"1024-65535", alloc.RangeSet(1024, 65535)},
	{"all", alloc.RangeSet(1, 65535)},
	{"every16th", every(16, 7, 65535)},
	{"host", alloc.MustParseSet("32768-60999,!33333,!40000-40100,!60999")},
}

// every returns every step-th port from first to last.
func every(step, first, last int) (s alloc.Set) {
	text := make([]byte, 0, 1<<16)
	for port := first; port <= last; port += step {
		text, _ = alloc.RangeSet(uint16(port), uint16(port)).AppendText(text)
		text = append(text, ',')
	}
	return alloc.MustParseSet(string(text[:len(text)-1]))
}

func TestPortsDoWhatTheModelDoes(t *testing.T) {
	steps := 3000
	if testing.Short() {
		steps = 500
	}
	for i, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			t.Logf("seed: rand.NewPCG(1, %d)", i)
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			p, m := alloc.NewFrom(shape.set, rng.Uint64), newModel(shape.set)
			require.Equal(t, len(m.allowed), p.Free())
			var held []uint16
			for step := range steps {
				in := shapes[rng.IntN(len(shapes))].set
				port := uint16(rng.Uint32())
				if n := len(m.allowed); n > 0 && rng.IntN(4) > 0 {
					port = m.allowed[rng.IntN(n)]
				}
				var ok bool
				switch up := step*4/steps%2 == 0; rng.IntN(8) { // up, down, up, down
				case 0:
					want := m.Reserve(port)
					require.Equal(t, want, p.Reserve(port), "Reserve(%d)", port)
					if want {
						held = append(held, port)
					}
				case 1:
					require.Equal(t, m.used[port], p.Contains(port), "Contains(%d)", port)
				case 2:
					if !m.used[port] {
						require.False(t, p.Release(port), "Release(%d)", port)
					}
				case 3:
					if step%8 == 0 || len(m.allowed) < 1000 { // listing takes a while
						free := m.free(in.Contains)
						port, ok = p.AcquireIn(in)
						require.Equal(t, len(free) > 0, ok, "AcquireIn")
						require.True(t, !ok || slices.Contains(free, port), "AcquireIn gave %d", port)
					}
				default:
					if up || len(held) == 0 {
						port, ok = p.Acquire()
						require.Equal(t, len(held) < len(m.allowed), ok, "Acquire")
						break
					}
					port, held[0] = held[0], held[len(held)-1]
					held = held[:len(held)-1]
					require.True(t, m.Release(port))
					require.True(t, p.Release(port), "Release(%d)", port)
				}
				if ok {
					require.True(t, m.Reserve(port), "gave %d, which is not free", port)
					held = append(held, port)
				}
				require.Equal(t, len(held), p.Len())
				require.Equal(t, len(m.allowed)-len(held), p.Free())
			}
			for port := range 1 << 16 {
				if got, want := p.Contains(uint16(port)), m.used[uint16(port)]; got != want {
					require.Equal(t, want, got, "Contains(%d)", port)
				}
			}
		})
	}
}

// A Ports gives each port exactly once before it fails, and takes all of them back.
func TestPortsGiveEachPortExactlyOnce(t *testing.T) {
	for i, shape := range shapes {
		t.Logf("seed: rand.NewPCG(2, %d)", i)
		p := alloc.NewFrom(shape.set, rand.NewPCG(2, uint64(i)).Uint64)
		given := map[uint16]bool{}
		for port, ok := p.Acquire(); ok; port, ok = p.Acquire() {
			if !shape.set.Contains(port) || given[port] {
				require.Fail(t, "gave a port twice or out of the set", "%s: %d", shape.name, port)
			}
			given[port] = true
		}
		require.Len(t, given, shape.set.Len(), shape.name)
		require.Zero(t, p.Free(), shape.name)
		_, ok := p.AcquireIn(alloc.RangeSet(1, 65535))
		require.False(t, ok, shape.name)
		for port := range given {
			if !p.Release(port) {
				require.Fail(t, "a port in use cannot be released", "%s: %d", shape.name, port)
			}
		}
		require.Zero(t, p.Len(), shape.name)
	}
}

func TestTheZeroPortsHasNoPortToGive(t *testing.T) {
	var p alloc.Ports
	_, ok := p.Acquire()
	require.False(t, ok)
	_, ok = p.AcquireIn(alloc.RangeSet(1, 65535))
	require.False(t, ok)
	require.False(t, p.Reserve(80))
	require.False(t, p.Release(80))
	require.False(t, p.Contains(80))
	require.Zero(t, p.Len())
	require.Zero(t, p.Free())
}

func TestPort0IsNeverGivenNorReserved(t *testing.T) {
	p := alloc.New(alloc.RangeSet(0, 2))
	require.Equal(t, 2, p.Free())
	require.False(t, p.Reserve(0))
	require.False(t, p.Contains(0))
	require.False(t, p.Release(0))
	for range 2 {
		port, ok := p.Acquire()
		require.True(t, ok)
		require.NotZero(t, port)
	}
}
