package dialer

import (
	"fmt"
	"iter"
	"net"
	"net/netip"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// sockets asks the kernel for the sockets of a transport: those that are connected, TIME_WAIT included, or those that listen,
// which for UDP are the bound ones that are not connected.
func sockets(network string, connected bool) iter.Seq2[sockdiag.Socket, error] {
	q := sockdiag.Query{Protocol: sockdiag.TCP, States: sockdiag.StatesOf(sockdiag.Listen)}
	switch {
	case network == "udp" && connected:
		q = sockdiag.Query{Protocol: sockdiag.UDP, States: sockdiag.StatesOf(sockdiag.Established)}
	case network == "udp":
		q = sockdiag.Query{Protocol: sockdiag.UDP, States: sockdiag.StatesOf(sockdiag.Close)}
	case network == "tcp" && connected:
		q.States = sockdiag.StatesOf(sockdiag.Established, sockdiag.SynSent, sockdiag.SynRecv, sockdiag.NewSynRecv,
			sockdiag.FinWait1, sockdiag.FinWait2, sockdiag.Closing, sockdiag.TimeWait, sockdiag.CloseWait, sockdiag.LastAck)
	}
	return func(yield func(sockdiag.Socket, error) bool) {
		if network != "tcp" && network != "udp" {
			yield(sockdiag.Socket{}, fmt.Errorf("asking the kernel for sockets: %w: it is tcp or udp", net.UnknownNetworkError(network)))
			return
		}
		for s, err := range q.All() {
			if err != nil {
				err = fmt.Errorf("asking the kernel for sockets: %w", err)
			}
			if !yield(s, err) {
				return
			}
		}
	}
}

// end returns the tuple that a socket has to whoever sees its packets: under Pool.Scope several destinations are one.
func end(p *tuple.Pool, s *sockdiag.Socket) tuple.Tuple {
	if p.Scope != nil {
		return tuple.From(s.Local, p.Scope(s.Remote))
	}
	return tuple.From(s.Local, s.Remote)
}

// entry returns the tuple by which p enters a socket with this end in its account: without Sources it has no address.
func entry(p *tuple.Pool, end tuple.Tuple) tuple.Tuple {
	if len(p.Sources) > 0 {
		return end
	}
	src := end.Src()
	return tuple.From(netip.AddrPortFrom(unspecified(src.Addr()), src.Port()), end.Dst())
}
