package tuple

import "maps"

// shrinking is a map that gives memory back as it empties, which a Go map does not: it is made anew, at O(1)
// amortised, when it holds a quarter of what it held at most. The zero shrinking is an empty map.
type shrinking[K comparable, V any] struct {
	m    map[K]V
	peak int // the most since m was made
}

// smallMap is the size below which a map does not bother.
const smallMap = 64

// get returns the value of key, the zero value if there is none.
func (t *shrinking[K, V]) get(key K) V { return t.m[key] }

func (t *shrinking[K, V]) put(key K, value V) {
	if t.m == nil {
		t.m = make(map[K]V)
	}
	t.m[key] = value
	t.peak = max(t.peak, len(t.m))
}

func (t *shrinking[K, V]) delete(key K) {
	delete(t.m, key)
	if t.peak < smallMap || len(t.m) > t.peak/4 {
		return
	}
	m := make(map[K]V, len(t.m))
	maps.Copy(m, t.m)
	t.m, t.peak = m, len(m)
}
