// Package shrink has containers that give memory back as they empty, which a map and a slice of Go do not.
package shrink

import (
	"iter"
	"maps"
)

// Map is a map that is made anew when it holds a quarter of what it held at most, which is O(1) amortised. The zero Map
// is empty and ready to use. It must not be copied after its first use. It is not safe for concurrent use.
type Map[K comparable, V any] struct {
	m    map[K]V
	peak int // the most since m was made
}

// small is the size below which a container does not shrink.
const small = 64

// Len returns how many keys there are.
func (m *Map[K, V]) Len() int { return len(m.m) }

// Get returns the value of a key, the zero value if there is none.
func (m *Map[K, V]) Get(key K) V { return m.m[key] }

// All yields the keys and their values in no order. The loop may change the Map, as it may change a Go map.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for key := range m.m {
			if value, in := m.m[key]; in && !yield(key, value) { // Delete may have made the map anew
				return
			}
		}
	}
}

// Put sets the value of a key.
func (m *Map[K, V]) Put(key K, value V) {
	if m.m == nil {
		m.m = make(map[K]V)
	}
	m.m[key] = value
	m.peak = max(m.peak, len(m.m))
}

// Delete removes a key, if it is there.
func (m *Map[K, V]) Delete(key K) {
	delete(m.m, key)
	if m.peak < small || len(m.m) > m.peak/4 {
		return
	}
	fresh := make(map[K]V, len(m.m))
	maps.Copy(fresh, m.m)
	m.m, m.peak = fresh, len(fresh)
}
