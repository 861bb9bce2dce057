package sockdiag

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// matches is the slow filter: it applies a Query to a Socket.
func (q Query) matches(s Socket) bool {
	return q.protocol() == s.Protocol &&
		(q.Family == 0 || q.Family == s.Family) &&
		q.States.Contains(s.State) &&
		q.Local.matches(s.Local) && q.Remote.matches(s.Remote)
}

func (m Match) matches(end netip.AddrPort) bool {
	address := len(m.Prefixes) == 0
	for _, p := range m.Prefixes {
		address = address || unmapPrefix(p).Contains(end.Addr())
	}
	port := len(m.Ports) == 0
	for _, r := range m.Ports {
		port = port || r.First <= end.Port() && end.Port() <= r.last()
	}
	return address && port
}

// raw is an end as the kernel has it: an IPv6 socket has IPv4-mapped addresses.
type raw struct {
	addr netip.Addr
	port uint16
}

// accepts runs a program as inet_diag_bc_run does.
func accepts(t *testing.T, code []byte, local, remote raw) bool {
	t.Helper()
	at := 0
	for at < len(code) {
		yes, no := int(code[at+1]), int(binary.NativeEndian.Uint16(code[at+2:]))
		var holds bool
		switch code[at] {
		case opJump:
		case opLocalGE:
			holds = local.port >= binary.NativeEndian.Uint16(code[at+6:])
		case opLocalLE:
			holds = local.port <= binary.NativeEndian.Uint16(code[at+6:])
		case opRemoteGE:
			holds = remote.port >= binary.NativeEndian.Uint16(code[at+6:])
		case opRemoteLE:
			holds = remote.port <= binary.NativeEndian.Uint16(code[at+6:])
		case opLocalMatch:
			holds = hostMatches(code[at+4:], local)
		case opRemoteMatch:
			holds = hostMatches(code[at+4:], remote)
		default:
			t.Fatalf("unknown instruction %d at %d", code[at], at)
		}
		if holds {
			at += yes
		} else {
			at += no
		}
	}
	return at == len(code)
}

func hostMatches(cond []byte, end raw) bool {
	family, bits := Family(cond[0]), int(cond[1])
	if port := int32(binary.NativeEndian.Uint32(cond[4:])); port != -1 && port != int32(end.port) {
		return false
	}
	if family == 0 {
		return true
	}
	want, ok := decodeAddrExact(cond[8:], family)
	if !ok {
		return false
	}
	have := end.addr
	if family == IPv4 && have.Is4In6() {
		have = have.Unmap()
	}
	if want.BitLen() != have.BitLen() {
		return false
	}
	p, q := netip.PrefixFrom(want, bits).Masked(), netip.PrefixFrom(have, bits).Masked()
	return p == q
}

func decodeAddrExact(b []byte, family Family) (netip.Addr, bool) {
	switch family {
	case IPv4:
		return netip.AddrFrom4([4]byte(b)), true
	case IPv6:
		return netip.AddrFrom16([16]byte(b)), true
	}
	return netip.Addr{}, false
}

// audit checks a program as inet_diag_bc_audit does.
func audit(t *testing.T, code []byte) {
	t.Helper()
	starts := map[int]bool{len(code): true, len(code) + 4: true}
	for at := 0; at < len(code); at += int(code[at+1]) {
		starts[at] = true
		require.GreaterOrEqual(t, code[at+1], byte(4), "an instruction without a length at %d", at)
	}
	for at := 0; at < len(code); {
		smallest := 4
		switch code[at] {
		case opJump:
		case opLocalGE, opLocalLE, opRemoteGE, opRemoteLE:
			smallest = 8
		case opLocalMatch, opRemoteMatch:
			size := map[Family]int{0: 0, IPv4: 4, IPv6: 16}
			n, ok := size[Family(code[at+4])]
			require.True(t, ok)
			require.LessOrEqual(t, int(code[at+5]), 8*n)
			smallest = 12 + n
		default:
			t.Fatalf("unknown instruction %d at %d", code[at], at)
		}
		yes, no := int(code[at+1]), int(binary.NativeEndian.Uint16(code[at+2:]))
		require.Zero(t, yes&3)
		require.Zero(t, no&3)
		require.GreaterOrEqual(t, yes, smallest)
		require.GreaterOrEqual(t, no, smallest)
		require.LessOrEqual(t, no, len(code)-at+4)
		require.True(t, starts[at+no], "a jump from %d into the middle of an instruction", at)
		at += yes
		require.LessOrEqual(t, at, len(code))
	}
}

// A program accepts exactly the sockets that match the Query, and the kernel's verifier accepts the program.
func TestBytecodeMeansTheQuery(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	addrs := []netip.Addr{
		netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("10.1.2.3"),
		netip.MustParseAddr("::ffff:127.0.0.1"), netip.MustParseAddr("::ffff:10.1.2.3"),
		netip.MustParseAddr("::1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::8:1"),
		netip.IPv4Unspecified(), netip.IPv6Unspecified(),
	}
	ports := []uint16{0, 1, 80, 443, 444, 40000, 65535}
	match := func() (m Match) {
		for range rng.IntN(4) {
			a := addrs[rng.IntN(len(addrs))]
			bits := rng.IntN(a.BitLen() + 1)
			if rng.IntN(2) == 0 {
				bits = a.BitLen()
			}
			m.Prefixes = append(m.Prefixes, netip.PrefixFrom(a, bits))
		}
		for range rng.IntN(4) {
			r := PortRange{First: ports[rng.IntN(len(ports))]}
			if last := ports[rng.IntN(len(ports))]; last >= r.First {
				r.Last = last
			}
			m.Ports = append(m.Ports, r)
		}
		return m
	}
	var accepted, rejected int
	for range 3000 {
		q := Query{Local: match(), Remote: match()}
		code, err := q.bytecode()
		require.NoError(t, err)
		audit(t, code)
		for range 20 {
			local := raw{addrs[rng.IntN(len(addrs))], ports[rng.IntN(len(ports))]}
			remote := raw{addrs[rng.IntN(len(addrs))], ports[rng.IntN(len(ports))]}
			want := q.Local.matches(netip.AddrPortFrom(local.addr.Unmap(), local.port)) &&
				q.Remote.matches(netip.AddrPortFrom(remote.addr.Unmap(), remote.port))
			require.Equal(t, want, accepts(t, code, local, remote), "%+v: %v -> %v", q, local, remote)
			if want {
				accepted++
			} else {
				rejected++
			}
		}
	}
	require.Greater(t, accepted, 1000)
	require.Greater(t, rejected, 1000)
}

// A Query without conditions on the ends needs no program.
func TestZeroMatchHasNoBytecode(t *testing.T) {
	code, err := Query{States: StatesOf(TimeWait)}.bytecode()
	require.NoError(t, err)
	require.Empty(t, code)
}

// A filter that is too long for the attribute is an error. It is not cut off.
func TestBytecodeTooLong(t *testing.T) {
	var m Match
	for p := range uint16(4000) {
		m.Ports = append(m.Ports, PortRange{First: 2 * p})
	}
	code, err := Query{Remote: m}.bytecode()
	require.NoError(t, err)
	audit(t, code)
	m.Ports = append(m.Ports, m.Ports...)
	_, err = Query{Remote: m}.bytecode()
	require.ErrorContains(t, err, "fewer")
}

// An invalid Query yields exactly one error, which says what is wrong.
func TestQueryErrors(t *testing.T) {
	for _, c := range []struct {
		query Query
		want  string
	}{
		{Query{Protocol: 1}, "protocol 1"},
		{Query{Family: 1}, "family 1"},
		{Query{Local: Match{Prefixes: make([]netip.Prefix, 1)}}, "not valid"},
		{Query{Remote: Match{Ports: []PortRange{{First: 9, Last: 8}}}}, "9-8"},
	} {
		var n int
		for s, err := range c.query.All() {
			require.ErrorContains(t, err, c.want)
			require.Zero(t, s)
			n++
		}
		require.Equal(t, 1, n)
	}
}

// In At, a missing address or port means any, and an IPv4-mapped address means the IPv4 address.
func TestAt(t *testing.T) {
	require.Zero(t, At(netip.AddrPort{}))
	require.Equal(t, Match{Ports: []PortRange{{First: 443}}}, At(netip.AddrPortFrom(netip.Addr{}, 443)))
	require.Equal(t, Match{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}},
		At(netip.MustParseAddrPort("[::ffff:10.0.0.1]:0")))
}

// If no IPv4 address can match, All does not walk the IPv4 tables.
func TestFamiliesToWalk(t *testing.T) {
	v4, v6 := At(netip.MustParseAddrPort("127.0.0.1:0")), At(netip.MustParseAddrPort("[::1]:0"))
	for _, c := range []struct {
		query Query
		want  []Family
	}{
		{Query{}, []Family{IPv4, IPv6}},
		{Query{Family: IPv4}, []Family{IPv4}},
		{Query{Local: v4}, []Family{IPv4, IPv6}}, // IPv6 sockets can talk IPv4
		{Query{Remote: v6}, []Family{IPv6}},
		{Query{Family: IPv6, Local: v4}, []Family{IPv6}},
	} {
		got, err := c.query.families()
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
}
