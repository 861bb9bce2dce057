package held_test

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/ephemera-go/ephemera/internal/held"
	"github.com/ephemera-go/ephemera/internal/ports"
)

// name names a tuple by its addresses, so that it stays the same when the sources get other numbers.
type name struct {
	dst  netip.AddrPort
	src  netip.Addr
	port uint16
}

// from is a source prefix, and which of its ports are handed out.
type from struct {
	prefix netip.Prefix
	ports  []uint16
	own    bool
}

func (f *from) is6() bool { return f.prefix.Addr().Is6() }

func (f *from) has(a netip.Addr) bool {
	if f.prefix.Bits() == 64 && f.prefix.Contains(a) {
		raw := a.As16()
		return [4]byte(raw[8:12]) == [4]byte{} // the first 2^32
	}
	return f.prefix.Contains(a)
}

// size is how many addresses there are, as far as a test counts.
func (f *from) size() int { return 1 << min(f.prefix.Addr().BitLen()-f.prefix.Bits(), 32) }

// model is a Table and its Sources, slow and obviously right: each tuple that is held has an entry in a map.
type model struct {
	live []from // in ascending order
	any  bool   // the unspecified address stands for all
	held map[name]held.State
	peak map[netip.AddrPort]int
}

// portsOf returns which ports of an address are handed out.
func (m *model) portsOf(a netip.Addr) []uint16 {
	for i := range m.live {
		if m.live[i].has(a) {
			return m.live[i].ports
		}
	}
	return nil
}

// isFree reports whether a tuple is handed out and not held.
func (m *model) isFree(n name) bool {
	return m.held[n] == 0 && slices.Contains(m.portsOf(n.src), n.port)
}

// request is an Ask in the terms of the model.
type request struct {
	dst   netip.AddrPort
	src   netip.Addr // invalid: any
	ports []uint16   // nil: any
	owner string
}

// wants reports whether a port would do.
func (r *request) wants(port uint16) bool { return r.ports == nil || slices.Contains(r.ports, port) }

func (r *request) fits(n name) bool {
	return n.dst == r.dst && (!r.src.IsValid() || r.src == n.src) && r.wants(n.port)
}

// free returns how many free ports a request fits at an address.
func (m *model) free(r *request, src netip.Addr) (n int) {
	for _, port := range m.portsOf(src) {
		if x := (name{r.dst, src, port}); r.fits(x) && m.held[x] == 0 {
			n++
		}
	}
	return n
}

// towards returns the sources of the destination's family.
func (m *model) towards(dst netip.AddrPort) (list []from) {
	for _, f := range m.live {
		if f.is6() == dst.Addr().Is6() {
			list = append(list, f)
		}
	}
	return list
}

// mostLooked bounds at how many addresses of a wide prefix the model looks: it holds less than that from there.
const mostLooked = 2000

// exists reports whether anything is free that a request fits.
func (m *model) exists(r *request) bool {
	for _, f := range m.towards(r.dst) {
		if !slices.ContainsFunc(f.ports, r.wants) {
			continue
		}
		a := f.prefix.Addr()
		for range min(f.size(), mostLooked) {
			if m.free(r, a) > 0 {
				return true
			}
			a = a.Next()
		}
		if r.src.IsValid() && f.has(r.src) && m.free(r, r.src) > 0 {
			return true
		}
	}
	return false
}

// heldFrom returns how many tuples each source of a destination holds, of the ports that are handed out.
func (m *model) heldFrom(dst netip.AddrPort) map[netip.Addr]int {
	n := map[netip.Addr]int{}
	for x := range m.held {
		if x.dst == dst && slices.Contains(m.portsOf(x.src), x.port) {
			n[x.src]++
		}
	}
	return n
}

// counts returns what Place.Counts says of a destination.
func (m *model) counts(dst netip.AddrPort) held.Counts {
	c := held.Counts{Peak: m.peak[dst]}
	for x, state := range m.held {
		switch {
		case x.dst != dst:
		case state == held.InUse:
			c.InUse++
		case state == held.Retired:
			c.Retired++
		default:
			c.Taken++
		}
	}
	return c
}

// set has a tuple stand in another way.
func (m *model) set(n name, state held.State) {
	if state == held.Free {
		delete(m.held, n)
	} else {
		m.held[n] = state
	}
	c := m.counts(n.dst)
	if m.peak[n.dst] = max(c.Peak, c.InUse+c.Retired); c.InUse+c.Retired == 0 {
		delete(m.peak, n.dst)
	}
}

// sorted returns the tuples that are held and that a filter lets through.
func (m *model) sorted(filter func(n name, state held.State) bool) (list []name) {
	for n, state := range m.held {
		if filter(n, state) {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b name) int {
		return cmp.Or(a.dst.Compare(b.dst), a.src.Compare(b.src), cmp.Compare(a.port, b.port))
	})
	return list
}

// sources returns the Sources of one family. Equal ports have the same table if that is what table returns.
func (m *model) sources(is6 bool, table func([]uint16) *ports.Allowed) *held.Sources {
	s := new(held.Sources)
	for _, f := range m.live {
		switch {
		case f.is6() != is6:
		case m.any:
			return held.AnySource(f.prefix.Addr(), table(f.ports))
		default:
			s.Add(f.prefix, table(f.ports), f.own)
		}
	}
	return s
}
