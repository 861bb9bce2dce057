package sockdiag

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
)

// Query selects sockets. A socket must meet all of its conditions. The zero Query selects every TCP socket, IPv4 and
// IPv6. The kernel checks the conditions, so it is cheap to find a few sockets among many: see [Query.All].
//
// A Query may be copied. Several goroutines may use it at the same time, as long as none changes it.
type Query struct {
	// Protocol is TCP or UDP. 0 means TCP.
	Protocol Protocol

	// Family is the family of the socket, not of its addresses: an IPv6 socket that talks IPv4 is IPv6 here. 0 means
	// both families. The kernel then walks its table once for TCP, and twice for UDP.
	Family Family

	// States are the states to select. 0 means all of them: see [States].
	States States

	// Local and Remote are conditions on the two ends. The zero Match matches any end.
	Local, Remote Match
}

// Match is a condition on one end of a socket: an address in one of the Prefixes, and a port in one of the Ports. The
// zero Match matches any end.
type Match struct {
	// Prefixes match the addresses of [Socket] as netip.Prefix.Contains does. So an IPv4 prefix matches IPv4 addresses
	// of IPv4 and of IPv6 sockets, and an IPv6 prefix matches no IPv4 address. A prefix within ::ffff:0:0/96 means the
	// IPv4 prefix in it. No prefix matches any address.
	Prefixes []netip.Prefix

	// Ports are ranges of ports. No range matches any port.
	Ports []PortRange
}

// PortRange is the ports from First to Last, both included. If Last is 0, it is the port First alone.
type PortRange struct{ First, Last uint16 }

// At returns the Match for one end. An invalid address means any address, and port 0 means any port.
func At(end netip.AddrPort) Match {
	var m Match
	if a := end.Addr().Unmap().WithZone(""); a.IsValid() {
		m.Prefixes = []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
	}
	if end.Port() != 0 {
		m.Ports = []PortRange{{First: end.Port()}}
	}
	return m
}

// All yields the selected sockets as the kernel's answers arrive. Each use of the sequence asks again. It is cheap to
// stop early. Only one datagram of answers, about 260 sockets, is in memory at a time.
//
// The list is not a snapshot, because sockets come and go during the walk. A socket that moves in the kernel's tables
// may appear twice or not at all. A socket that exists during the whole walk and does not change appears once.
//
// The kernel walks its whole hash table each time, for any Query. The table shows the time to find the sockets towards
// one address and port, in a hash table of 262,144 buckets for TCP and 16,384 for UDP (Linux 6.18, 2 processors, the
// best of several runs on a busy host; go test -bench Dump ./internal/sockdiag):
//
//	             others                       matching
//	      none   1,000   15,000  28,000  100,000  15,000  28,000
//	TCP  1.4 ms  1.4 ms          2.5 ms   12 ms            8 ms
//	UDP  0.05 ms 0.08 ms  1.2 ms                    9 ms
//
// It allocates 66 KB, however many sockets there are.
//
// An error comes last, with the zero Socket. It is about the Query itself, or it Is a syscall.Errno if the kernel
// refused, or it Is [ErrInterrupted] or [errors.ErrUnsupported].
func (q Query) All() iter.Seq2[Socket, error] {
	return q.all(walk)
}

// walker dumps the tables of each family, one after the other.
type walker func(q Query, families []Family, each func(Socket) bool, interrupted *bool) error

func (q Query) all(walk walker) iter.Seq2[Socket, error] {
	return func(yield func(Socket, error) bool) {
		interrupted := false
		families, err := q.families()
		if err == nil {
			err = walk(q, families, func(s Socket) bool { return yield(s, nil) }, &interrupted)
		}
		switch {
		case errors.Is(err, errStopped):
		case err != nil:
			yield(Socket{}, fmt.Errorf("sockdiag: list %s sockets: %w", q.protocol(), err))
		case interrupted:
			yield(Socket{}, fmt.Errorf("sockdiag: list %s sockets: %w; ask again", q.protocol(), ErrInterrupted))
		}
	}
}

// errStopped is the error of walk if the consumer stops early.
var errStopped = errors.New("stopped by the consumer")

func (q Query) protocol() Protocol {
	if q.Protocol == 0 {
		return TCP
	}
	return q.Protocol
}

// families checks the Query, and returns the families whose tables a walk needs.
func (q Query) families() ([]Family, error) {
	if err := checkProtocol(q.protocol()); err != nil {
		return nil, err
	}
	for _, m := range []Match{q.Local, q.Remote} {
		if err := m.check(); err != nil {
			return nil, err
		}
	}
	switch {
	case q.Family == IPv4 || q.Family == IPv6:
		return []Family{q.Family}, nil
	case q.Family != 0:
		return nil, fmt.Errorf("%s is neither ipv4 (%d) nor ipv6 (%d)", q.Family, IPv4, IPv6)
	case q.Local.onlyIPv6() || q.Remote.onlyIPv6():
		return []Family{IPv6}, nil
	}
	return []Family{IPv4, IPv6}, nil
}

func checkProtocol(p Protocol) error {
	if p != TCP && p != UDP {
		return fmt.Errorf("%s is neither tcp (%d) nor udp (%d)", p, TCP, UDP)
	}
	return nil
}

func (m Match) check() error {
	for _, p := range m.Prefixes {
		if !p.IsValid() {
			return errors.New("a prefix to match is not valid")
		}
	}
	for _, r := range m.Ports {
		if r.last() < r.First {
			return fmt.Errorf("a port range to match ends before it begins: %d-%d", r.First, r.Last)
		}
	}
	return nil
}

// onlyIPv6 reports whether no IPv4 address can match.
func (m Match) onlyIPv6() bool {
	for _, p := range m.Prefixes {
		if unmapPrefix(p).Addr().Is4() {
			return false
		}
	}
	return len(m.Prefixes) > 0
}

func (r PortRange) last() uint16 {
	if r.Last == 0 {
		return r.First
	}
	return r.Last
}

// unmapPrefix turns a prefix within ::ffff:0:0/96 into its IPv4 prefix. It returns any other prefix unchanged.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}
