package dialer

import (
	"fmt"
	"iter"
	"net"
	"net/netip"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// connectedStates are the states of a TCP socket that is connected, or of what is left of one.
var connectedStates = sockdiag.StatesOf(sockdiag.Established, sockdiag.SynSent, sockdiag.SynRecv, sockdiag.NewSynRecv,
	sockdiag.FinWait1, sockdiag.FinWait2, sockdiag.Closing, sockdiag.TimeWait, sockdiag.CloseWait, sockdiag.LastAck)

// livingStates are those of a socket that exists, as opposed to what is left of one.
var livingStates = sockdiag.StatesOf(sockdiag.Established, sockdiag.SynSent, sockdiag.SynRecv, sockdiag.FinWait1,
	sockdiag.FinWait2, sockdiag.CloseWait, sockdiag.LastAck, sockdiag.Closing)

// sockets asks the kernel for the sockets of a transport: those that are connected, TIME_WAIT included, or those that
// listen, which for UDP are the bound ones that are not connected.
func sockets(network string, connected bool) iter.Seq2[sockdiag.Socket, error] {
	q := sockdiag.Query{Protocol: sockdiag.TCP, States: sockdiag.StatesOf(sockdiag.Listen)}
	switch {
	case network == "udp" && connected:
		q = sockdiag.Query{Protocol: sockdiag.UDP, States: sockdiag.StatesOf(sockdiag.Established)}
	case network == "udp":
		q = sockdiag.Query{Protocol: sockdiag.UDP, States: sockdiag.StatesOf(sockdiag.Close)}
	case network == "tcp" && connected:
		q.States = connectedStates
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

// fewestWalks and mostWalks are how often the sockets are walked where each one counts. A walk misses some: of TCP's
// one that is just going over to TIME_WAIT; of UDP's those that share a port with others that are closed meanwhile,
// for the kernel hands out some 260 at a time, and finds its place again by counting (udp_dump in
// net/ipv4/udp_diag.c). Of 2,000 on a port on which 1,500 others came and went, two walks missed 3 in 10,000.
const fewestWalks, mostWalks = 2, 12

// walks calls walk, which says whether it found something that is new, until that does not happen any more.
func walks(network string, walk func() (news bool, err error)) error {
	for n, quiet := 0, 0; n < mostWalks; n++ {
		news, err := walk()
		if err != nil {
			return err
		}
		if quiet++; news {
			quiet = 0
		}
		if n+1 >= fewestWalks && (network == "tcp" || quiet >= fewestWalks) {
			break
		}
	}
	return nil
}

// hasSocket reports whether the kernel has a connected socket with exactly these ends. One that is bound to a device
// by its address, and one whose local address is not known, is found by a walk, which misses nothing for it has next
// to nothing to hand out.
func hasSocket(network string, local, remote netip.AddrPort) (found bool, err error) {
	protocol := sockdiag.TCP
	if network == "udp" {
		protocol = sockdiag.UDP
	}
	ip := local.Addr()
	if !ip.IsUnspecified() && !isOnDevice(remote.Addr()) {
		_, found, err = sockdiag.Lookup(protocol, local, remote)
		return found, err
	}
	if ip.IsUnspecified() {
		local = netip.AddrPortFrom(netip.Addr{}, local.Port())
	}
	for _, err := range (sockdiag.Query{Protocol: protocol, Local: sockdiag.At(local), Remote: sockdiag.At(remote)}).All() {
		return err == nil, err
	}
	return false, nil
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
