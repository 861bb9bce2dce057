package sockdiag

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
)

// Query says which sockets are wanted. The zero Query wants every TCP socket,
// IPv4 and IPv6. All conditions must hold at once. The kernel checks them, so
// that counting a few among many is cheap: see [Query.All].
//
// A Query may be copied, and used by several goroutines that do not change it.
type Query struct {
	// Protocol is TCP or UDP; zero is TCP.
	Protocol Protocol

	// Family is that of the socket, not of its addresses: an IPv6 socket that
	// talks IPv4 is IPv6 here. Zero is both: one walk for TCP, two for UDP.
	Family Family

	// States are the wanted states; zero is all, see [States].
	States States

	// Local and Remote are the wanted ends; zero is any.
	Local, Remote Match
}

// Match is a condition on one end of a socket: an address in one of the
// Prefixes, and a port in one of the Ports. The zero Match matches any end.
type Match struct {
	// Prefixes; empty: any address. IPv4 prefixes match IPv4 addresses wherever they
	// are, in IPv4 and in IPv6 sockets, and IPv6 prefixes match no IPv4 address:
	// the rule is that of netip.Prefix.Contains upon the addresses of [Socket].
	// (A prefix within ::ffff:0:0/96 stands for the IPv4 prefix in it.)
	Prefixes []netip.Prefix

	// Ports; empty: any port.
	Ports []PortRange
}

// PortRange is the ports First to Last, both included. {First: p} is the one
// port p.
type PortRange struct{ First, Last uint16 }

// At returns the Match for one end. An invalid address stands for any address
// and port 0 for any port.
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

// All asks the kernel and yields its answers one by one as they arrive; only one
// datagram of them, some hundred sockets, is in memory at a time. Each use of
// the sequence asks anew. To stop early is cheap.
//
// It is no snapshot: while the walk goes on, sockets come and go, and one that
// is moved may be seen twice or not at all. A socket that exists, unchanged, for
// the whole walk is seen once.
//
// The kernel walks its whole hash table each time, whatever the Query. A table of
// 262,144 buckets for TCP and 16,384 for UDP, asked for the sockets towards one
// address and port, takes (Linux 6.18, 2 processors, the best of several runs on
// a busy host; go test -bench Dump ./internal/sockdiag):
//
//	             others                       matching
//	      none   1,000   15,000  28,000  100,000  15,000  28,000
//	TCP  1.4 ms  1.4 ms          2.5 ms   12 ms            8 ms
//	UDP  0.05 ms 0.08 ms  1.2 ms                    9 ms
//
// It allocates 66 KB, however many sockets there are.
//
// An error is yielded last, with the zero Socket. It is one about the Query
// itself, one that Is a syscall.Errno if the kernel refused, or one that Is
// [ErrInterrupted] or [errors.ErrUnsupported].
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

// errStopped is what walk returns when the consumer wants no more.
var errStopped = errors.New("stopped by the consumer")

func (q Query) protocol() Protocol {
	if q.Protocol == 0 {
		return TCP
	}
	return q.Protocol
}

// families returns the families whose tables have to be walked, after checking
// the Query.
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
			return fmt.Errorf("the port range %d-%d to match ends before it begins", r.First, r.Last)
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

// unmapPrefix returns the IPv4 prefix that an IPv6 prefix within ::ffff:0:0/96
// stands for, and any other prefix as it is.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}
