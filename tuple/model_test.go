package tuple_test

import (
	"math"
	"net/netip"
	"time"

	"github.com/ephemera-go/ephemera/tuple"
)

// model is a Pool that is slow and obviously right: every source address is enumerated, and every tuple that is held has
// an entry in one map.
type model struct {
	any     bool                // no Sources
	sources map[netip.Addr]bool // nil: all of wide
	wide    netip.Prefix        // too many sources to enumerate
	ports   map[uint16]bool
	held    map[tuple.Tuple]int64  // 0: in use; else when it comes free
	count   map[netip.AddrPort]int // of held, by destination
	peak    map[netip.AddrPort]int // the most that was, since it was 0
}

const never = math.MaxInt64

func newModel(sources []netip.Prefix, ports []uint16) *model {
	m := &model{any: len(sources) == 0, ports: map[uint16]bool{}, held: map[tuple.Tuple]int64{}, count: map[netip.AddrPort]int{}, peak: map[netip.AddrPort]int{}}
	for _, port := range ports {
		m.ports[port] = true
	}
	for _, prefix := range sources {
		if prefix.Addr().Is4In6() {
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		}
		if prefix.Bits() == 64 {
			m.wide = prefix
			continue
		}
		if m.sources == nil {
			m.sources = map[netip.Addr]bool{}
		}
		for a := prefix.Masked().Addr(); prefix.Contains(a); a = a.Next() {
			m.sources[a] = true
		}
	}
	return m
}

// isSource reports whether a is one of the source addresses.
func (m *model) isSource(a netip.Addr) bool {
	if !m.wide.IsValid() || !m.wide.Contains(a) {
		return m.sources[a]
	}
	raw := a.As16()
	return [4]byte(raw[8:]) == [4]byte{} // the first 2^32
}

// capacity is how many tuples there are towards dst.
func (m *model) capacity(dst netip.AddrPort) int {
	if m.any {
		return len(m.ports)
	}
	if m.wide.IsValid() && dst.Addr().Is6() {
		return math.MaxInt
	}
	n := 0
	for a := range m.sources {
		if a.Is4() == dst.Addr().Is4() {
			n += len(m.ports)
		}
	}
	return n
}

// entry returns t as the pool holds it; ok is false if the pool cannot hold it.
func (m *model) entry(t tuple.Tuple) (tuple.Tuple, bool) {
	src, dst := t.Src(), t.Dst()
	switch {
	case src.Port() == 0, dst.Port() == 0, dst.Addr().IsUnspecified(), src.Addr().Is4() != dst.Addr().Is4():
		return t, false
	case !m.ports[src.Port()]:
		return t, false
	case m.any && dst.Addr().Is4():
		return tuple.From(netip.AddrPortFrom(netip.IPv4Unspecified(), src.Port()), dst), true
	case m.any:
		return tuple.From(netip.AddrPortFrom(netip.IPv6Unspecified(), src.Port()), dst), true
	}
	return t, m.isSource(src.Addr())
}

func (m *model) expire(now int64) {
	for t, until := range m.held {
		if until != 0 && until <= now {
			m.free(t)
		}
	}
}

func (m *model) free(t tuple.Tuple) {
	delete(m.held, t)
	dst := t.Dst()
	if m.count[dst]--; m.count[dst] == 0 {
		delete(m.count, dst)
		delete(m.peak, dst)
	}
}

func (m *model) reserve(t tuple.Tuple) bool {
	t, ok := m.entry(t)
	if _, held := m.held[t]; held || !ok {
		return false
	}
	m.held[t] = 0
	m.count[t.Dst()]++
	m.peak[t.Dst()] = max(m.peak[t.Dst()], m.count[t.Dst()])
	return true
}

func (m *model) contains(t tuple.Tuple) bool {
	t, ok := m.entry(t)
	_, held := m.held[t]
	return ok && held
}

func (m *model) retire(t tuple.Tuple, d time.Duration, now int64) bool {
	t, ok := m.entry(t)
	if until, held := m.held[t]; !ok || !held || until != 0 {
		return false
	}
	switch {
	case d <= 0:
		m.free(t)
	case int64(d) > never-now:
		m.held[t] = never
	default:
		m.held[t] = now + int64(d)
	}
	return true
}

// towards counts what is held towards dst, and says when the first of the retired comes free.
func (m *model) towards(dst netip.AddrPort) (inUse, retired int, next int64) {
	next = never
	for t, until := range m.held {
		switch {
		case t.Dst() != dst:
		case until == 0:
			inUse++
		default:
			retired++
			next = min(next, until)
		}
	}
	return inUse, retired, next
}

// usage is how each destination stands now.
func (m *model) usage() map[netip.AddrPort]tuple.Usage {
	all := map[netip.AddrPort]tuple.Usage{}
	for t, until := range m.held {
		u := all[t.Dst()]
		if until == 0 {
			u.InUse++
		} else {
			u.Retired++
		}
		all[t.Dst()] = u
	}
	for dst, u := range all {
		u.Dst, u.HighWater, u.At = dst, m.peak[dst], time.Now()
		u.Free = m.capacity(dst) - u.InUse - u.Retired
		all[dst] = u
	}
	return all
}

func (m *model) stats() tuple.Stats {
	var s tuple.Stats
	dsts := map[netip.AddrPort]bool{}
	for t, until := range m.held {
		if until == 0 {
			s.InUse++
		} else {
			s.Retired++
		}
		dsts[t.Dst()] = true
	}
	s.Destinations = len(dsts)
	return s
}
