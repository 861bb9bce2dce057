package tuple_test

import (
	"math"
	"net/netip"
	"time"

	"github.com/ephemera-go/ephemera/tuple"
)

// model is a Pool that is slow and obviously right: every source address is enumerated, and every tuple that is held
// has an entry in one map.
type model struct {
	any     bool                // no Sources
	sources map[netip.Addr]bool // nil: all of wide
	wide    netip.Prefix        // too many sources to enumerate
	ports   map[uint16]bool
	held    map[tuple.Tuple]held
	count   map[netip.AddrPort]int // of held, less those taken, by destination
	peak    map[netip.AddrPort]int // the most that was, since it was 0
}

// held is how a tuple stands that is not free.
type held struct {
	state  tuple.State
	until  int64 // when it comes free; 0 if it is in use, never if it is taken without a time
	kernel bool  // it is retired for the kernel
}

const never = math.MaxInt64

func newModel(sources []netip.Prefix, ports []uint16) *model {
	m := &model{any: len(sources) == 0, held: map[tuple.Tuple]held{}, count: map[netip.AddrPort]int{}, peak: map[netip.AddrPort]int{}}
	m.setPorts(ports)
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

func (m *model) setPorts(ports []uint16) {
	m.ports = map[uint16]bool{}
	for _, port := range ports {
		m.ports[port] = true
	}
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

// entry returns t as the pool names it, and how it stands.
func (m *model) entry(t tuple.Tuple) (tuple.Tuple, tuple.State) {
	src, dst := t.Src(), t.Dst()
	switch {
	case src.Port() == 0, dst.Port() == 0, dst.Addr().IsUnspecified(), src.Addr().Is4() != dst.Addr().Is4():
		return t, tuple.Foreign
	case m.any && dst.Addr().Is4():
		t = tuple.From(netip.AddrPortFrom(netip.IPv4Unspecified(), src.Port()), dst)
	case m.any:
		t = tuple.From(netip.AddrPortFrom(netip.IPv6Unspecified(), src.Port()), dst)
	case !m.isSource(src.Addr()):
		return t, tuple.Foreign
	}
	if h, ok := m.held[t]; ok {
		return t, h.state
	}
	if m.ports[src.Port()] {
		return t, tuple.Free
	}
	return t, tuple.Foreign
}

func (m *model) expire(now int64) {
	for t, h := range m.held {
		if h.until != 0 && h.until <= now {
			m.free(t)
		}
	}
}

func (m *model) free(t tuple.Tuple) { m.set(t, held{state: tuple.Free}) }

// set makes t stand otherwise. What others hold does not count in the peak.
func (m *model) set(t tuple.Tuple, is held) {
	dst := t.Dst()
	if was, ok := m.held[t]; ok && was.state != tuple.Taken {
		m.count[dst]--
	}
	delete(m.held, t)
	if is.state != tuple.Free {
		m.held[t] = is
	}
	if is.state == tuple.InUse || is.state == tuple.Retired {
		m.count[dst]++
		m.peak[dst] = max(m.peak[dst], m.count[dst])
	}
	if m.count[dst] == 0 {
		delete(m.count, dst)
		delete(m.peak, dst)
	}
}

func (m *model) reserve(t tuple.Tuple) bool {
	t, state := m.entry(t)
	if state != tuple.Free {
		return false
	}
	m.set(t, held{state: tuple.InUse})
	return true
}

func (m *model) contains(t tuple.Tuple) bool {
	_, state := m.entry(t)
	return state != tuple.Free && state != tuple.Foreign
}

// retire ends the use of t: it is free after d, or stands as is says until then.
func (m *model) retire(t tuple.Tuple, is held, d time.Duration, now int64) bool {
	t, state := m.entry(t)
	if state != tuple.InUse {
		return false
	}
	m.setFor(t, is, d, now)
	return true
}

// setFor is set for a time. Only what others hold may have none, if d is negative.
func (m *model) setFor(t tuple.Tuple, is held, d time.Duration, now int64) {
	switch {
	case d < 0 && is.state == tuple.Taken, d > 0 && int64(d) > never-now:
		is.until = never
	case d <= 0:
		is = held{state: tuple.Free}
	default:
		is.until = now + int64(d)
	}
	m.set(t, is)
}

// mayEnd reports whether t is retired for the kernel or taken, so that this may end early.
func (m *model) mayEnd(t tuple.Tuple) bool {
	t, state := m.entry(t)
	return state == tuple.Taken || m.held[t].kernel
}

// towards counts what is held towards dst, and what is free, and says when the first of it comes free.
func (m *model) towards(dst netip.AddrPort) (u tuple.Usage, next int64) {
	next = never
	u.Free = m.capacity(dst)
	for t, h := range m.held {
		if t.Dst() != dst {
			continue
		}
		switch h.state {
		case tuple.InUse:
			u.InUse++
		case tuple.Retired:
			u.Retired++
		case tuple.Taken:
			u.Taken++
		}
		if h.until != 0 {
			next = min(next, h.until)
		}
		if m.ports[t.Src().Port()] {
			u.Free--
		}
	}
	return u, next
}

// usage is how each destination stands now.
func (m *model) usage() map[netip.AddrPort]tuple.Usage {
	all := map[netip.AddrPort]tuple.Usage{}
	for t := range m.held {
		dst := t.Dst()
		if _, ok := all[dst]; !ok {
			u, _ := m.towards(dst)
			u.Dst, u.HighWater, u.At = dst, m.peak[dst], time.Now()
			all[dst] = u
		}
	}
	return all
}

func (m *model) stats() tuple.Stats {
	var s tuple.Stats
	dsts := map[netip.AddrPort]bool{}
	for t, h := range m.held {
		switch h.state {
		case tuple.InUse:
			s.InUse++
		case tuple.Retired:
			s.Retired++
		case tuple.Taken:
			s.Taken++
		}
		dsts[t.Dst()] = true
	}
	s.Destinations = len(dsts)
	return s
}
