package held_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ephemera-go/ephemera/internal/held"
	"github.com/ephemera-go/ephemera/internal/ports"
)

// machine runs a Table beside the model.
type machine struct {
	model
	table  held.Table
	rules  held.Rules
	policy held.Policy
	ports  []uint16 // of the sources that have none of their own
	shared bool     // equal ports have the same table
	tables map[string]*ports.Allowed
	turns  map[netip.AddrPort]uint64 // whose turn it is, where that is known
	sticky map[string]netip.Addr     // what falls to a source, where that is known
}

// What a machine draws from. The prefixes overlap, in sources that come and go.
var (
	machinePrefixes = []netip.Prefix{
		netip.MustParsePrefix("192.0.2.0/30"), netip.MustParsePrefix("192.0.2.0/31"),
		netip.MustParsePrefix("192.0.2.2/32"), netip.MustParsePrefix("192.0.2.9/32"),
		netip.MustParsePrefix("2001:db8::/127"), netip.MustParsePrefix("2001:db8::/126"),
		netip.MustParsePrefix("2001:db8:0:1::/64"),
	}
	machineAddrs = []netip.Addr{
		netip.MustParseAddr("192.0.2.0"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"),
		netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("2001:db8::"),
		netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::3"),
		netip.MustParseAddr("2001:db8:0:1::7"), netip.MustParseAddr("2001:db8:0:1:1::"),
	}
	machinePorts = [][]uint16{
		span(5000, 1), span(5000, 2), span(5000, 4), span(5000, 6),
		{5001, 5003, 6000},
		span(5004, 97), span(64, 64),
		{5005, 5007, 9000, 9001, 9100, 20000, 40000},
	}
	machineDsts = []netip.AddrPort{
		ap("198.51.100.1:443"), ap("198.51.100.1:80"), ap("198.51.100.2:443"), ap("198.51.100.3:443"),
		ap("[2001:db8:f::1]:443"), ap("[2001:db8:f::1]:80"), ap("[2001:db8:f::2]:443"),
	}
	policies = []held.Policy{held.RoundRobin, held.LeastUsed, held.StickyDestination, held.StickyOwner, held.Random}
)

// TestTableIsTheMap runs every operation of a Table, in any order, beside the model. The long mode:
//
//	go test ./internal/held -run TableIsTheMap -rapid.checks=20000
func TestTableIsTheMap(t *testing.T) {
	for _, policy := range policies {
		t.Run(fmt.Sprint("policy=", policy), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				m := newMachine(rt, policy)
				rt.Repeat(map[string]func(*rapid.T){
					"": m.check, "acquire": m.Acquire, "acquire more": m.Acquire, "reserve": m.Reserve,
					"retire": m.Retire, "reuse": m.Reuse,
					"yield": m.Yield, "take": m.Take, "free": m.Free, "free many": m.FreeMany,
					"sources": m.SetSources, "ports": m.SetPorts,
				})
				for len(m.held) > 0 {
					m.end(rt, m.sorted(whatever)[0])
				}
				m.check(rt)
			})
		})
	}
}

func whatever(name, held.State) bool { return true }

func newMachine(t *rapid.T, policy held.Policy) *machine {
	m := &machine{model: model{held: map[name]held.State{}, peak: map[netip.AddrPort]int{}}, policy: policy}
	m.turns, m.sticky = map[netip.AddrPort]uint64{}, map[string]netip.Addr{}
	m.tables = map[string]*ports.Allowed{}
	m.shared = rapid.Bool().Draw(t, "equal ports have the same table")
	m.ports = m.drawPorts(t)
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)).Uint64
	m.rules = held.NewRules(m.policy, random, nil)
	if m.any = rapid.IntRange(0, 4).Draw(t, "any source") == 0; m.any {
		m.live = []from{
			{netip.MustParsePrefix("0.0.0.0/32"), m.ports, false}, {netip.MustParsePrefix("::/128"), m.ports, false},
		}
	} else {
		m.live = m.drawSources(t)
	}
	m.rules = m.rules.With(m.sources(false, m.tableOf), m.sources(true, m.tableOf))
	return m
}

func (m *machine) drawPorts(t *rapid.T) []uint16 {
	return rapid.SampledFrom(machinePorts).Draw(t, "ports")
}

func (m *machine) tableOf(list []uint16) *ports.Allowed {
	text := fmt.Sprint(list)
	if m.tables[text] == nil || !m.shared {
		m.tables[text] = allow(list)
	}
	return m.tables[text]
}

// drawSources draws sources none of which lies within another.
func (m *machine) drawSources(t *rapid.T) (list []from) {
	for _, prefix := range machinePrefixes {
		lies := slices.ContainsFunc(list, func(f from) bool { return f.prefix.Overlaps(prefix) })
		if lies || !rapid.Bool().Draw(t, "source") {
			continue
		}
		f := from{prefix, m.ports, rapid.IntRange(0, 2).Draw(t, "own ports") == 0}
		if f.own {
			f.ports = m.drawPorts(t)
		}
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b from) int { return a.prefix.Addr().Compare(b.prefix.Addr()) })
	return list
}

// SetSources lists other sources, or the same with other ports.
func (m *machine) SetSources(t *rapid.T) {
	if m.any {
		t.Skip("the system chooses the source")
	}
	m.live = m.drawSources(t)
	m.move(t, m.sources(false, m.tableOf), m.sources(true, m.tableOf))
}

// SetPorts gives other ports to the sources that have none of their own.
func (m *machine) SetPorts(t *rapid.T) {
	m.ports = m.drawPorts(t)
	for i := range m.live {
		if !m.live[i].own {
			m.live[i].ports = m.ports
		}
	}
	table := m.tableOf(m.ports)
	m.move(t, m.rules.V4.WithPorts(table), m.rules.V6.WithPorts(table))
}

func (m *machine) move(t *rapid.T, v4, v6 *held.Sources) {
	held4, held6 := make([]bool, m.rules.V4.DrainedBlocks()), make([]bool, m.rules.V6.DrainedBlocks())
	m.table.DrainedInUse(&m.rules, held4, held6)
	v4.Keep(&m.rules.V4, held4)
	v6.Keep(&m.rules.V6, held6)
	was, next := m.rules, m.rules.With(v4, v6)
	holds := map[name]held.Hold{}
	for n := range m.held {
		holds[n] = m.hold(t, n)
	}
	changed := false
	m.table.Move(&m.rules, &next, func() { changed = true })
	require.True(t, changed)
	m.rules = next
	for n, h := range holds {
		from, to := was.Sources(keyOf(n.dst)), next.Sources(keyOf(n.dst))
		require.Equal(t, m.hold(t, n), held.Renumber(h, from, to), "Renumber(%v)", n)
	}
	clear(m.turns)
	clear(m.sticky)
}

// from returns the Sources of a destination's family.
func (m *machine) from(dst netip.AddrPort) *held.Sources { return m.rules.Sources(keyOf(dst)) }

// hold returns the Hold of a tuple, whose address must be a source, live or drained.
func (m *machine) hold(t *rapid.T, n name) held.Hold {
	h, ok := m.from(n.dst).Find(held.AddrFrom(n.src), n.port)
	if !ok {
		require.Fail(t, "a tuple is not found", "%v", n)
	}
	return h
}

// name is the inverse of hold.
func (m *machine) name(dst netip.AddrPort, h held.Hold) name {
	return name{dst, m.from(dst).At(h.Number()).Netip(), h.Port()}
}

func (m *machine) find(dst netip.AddrPort) (held.Place, held.Key, uint64) {
	key := keyOf(dst)
	hash := key.Hash(m.rules.Hash)
	return m.table.Find(key, hash), key, hash
}

// drawHeld draws a tuple that stands in one of these ways, of those that are handed out if live is true.
func (m *machine) drawHeld(t *rapid.T, live bool, states ...held.State) name {
	list := m.sorted(func(n name, state held.State) bool {
		return slices.Contains(states, state) && (!live || slices.Contains(m.portsOf(n.src), n.port))
	})
	if len(list) == 0 {
		t.Skip("there is none")
	}
	return rapid.SampledFrom(list).Draw(t, "tuple")
}

// drawFree draws a tuple that is free and handed out.
func (m *machine) drawFree(t *rapid.T) name {
	n := name{dst: rapid.SampledFrom(machineDsts).Draw(t, "dst")}
	list := m.towards(n.dst)
	if len(list) == 0 {
		t.Skip("no sources")
	}
	f := rapid.SampledFrom(list).Draw(t, "source")
	n.src = f.prefix.Addr()
	for range rapid.IntRange(0, min(f.size(), 4)-1).Draw(t, "address") {
		n.src = n.src.Next()
	}
	n.port = rapid.SampledFrom(f.ports).Draw(t, "port")
	if !m.isFree(n) {
		t.Skip("it is held")
	}
	return n
}

func (m *machine) Reserve(t *rapid.T) {
	n := m.drawFree(t)
	at, key, hash := m.find(n.dst)
	at.Reserve(key, hash, m.hold(t, n), &m.rules)
	m.set(n, held.InUse)
}

func (m *machine) Take(t *rapid.T) {
	n := m.drawFree(t)
	at, key, hash := m.find(n.dst)
	at.Take(key, hash, m.hold(t, n), &m.rules)
	m.set(n, held.Taken)
}

func (m *machine) Retire(t *rapid.T) {
	n := m.drawHeld(t, false, held.InUse)
	at, _, _ := m.find(n.dst)
	at.Retire(m.hold(t, n))
	m.set(n, held.Retired)
}

func (m *machine) Reuse(t *rapid.T) {
	n := m.drawHeld(t, true, held.Retired, held.Taken)
	at, _, _ := m.find(n.dst)
	at.Reuse(m.hold(t, n), &m.rules)
	m.set(n, held.InUse)
}

func (m *machine) Yield(t *rapid.T) {
	n := m.drawHeld(t, false, held.InUse)
	at, _, _ := m.find(n.dst)
	at.Yield(m.hold(t, n), &m.rules)
	m.set(n, held.Taken)
}

func (m *machine) Free(t *rapid.T) {
	m.end(t, m.drawHeld(t, false, held.InUse, held.Retired, held.Taken))
}

func (m *machine) end(t *rapid.T, n name) {
	at, _, _ := m.find(n.dst)
	require.Equal(t, m.held[n], at.Free(m.hold(t, n), &m.rules), "Free(%v)", n)
	m.set(n, held.Free)
	if m.counts(n.dst) == (held.Counts{}) {
		delete(m.turns, n.dst) // it starts anew
	}
}

// FreeMany frees most of what is held towards a destination.
func (m *machine) FreeMany(t *rapid.T) {
	dst, stays := m.drawHeld(t, false, held.InUse, held.Retired, held.Taken).dst, rapid.IntRange(0, 3).Draw(t, "stay")
	list := m.sorted(func(n name, _ held.State) bool { return n.dst == dst })
	for _, n := range list[min(stays, len(list)):] {
		m.end(t, n)
	}
}
