package dialer

import (
	"net/netip"

	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// preparation is what a socket needs before it is bound and connected.
type preparation struct {
	lane      lane
	local     netip.AddrPort // without an address if the kernel chooses it
	remote    netip.AddrPort
	namespace uint64 // in which the lane is right; 0 means any
	freeBind  bool
	path      sockopt.Path // set by the caller's Control
	chosen    bool         // the caller's Control chose a local end
	guard     udpGuard
}

func (a *attempt) preparation(t tuple.Tuple, l lane) preparation {
	p := preparation{lane: l, local: a.localOf(t), remote: a.remote}
	p.freeBind = a.d.FreeBind && p.local.Addr().IsValid()
	if l == bindLane && !a.udp {
		p.namespace = a.settings.namespace
	}
	return p
}

// on prepares the socket fd. If the kernel chooses the port, or has only one to choose, on binds the address itself. If
// net.Dialer did, it would try twice more when the host lacks the address.
func (p *preparation) on(fd int) error {
	if p.namespace != 0 && p.namespace != sockopt.Namespace(fd) {
		return errLane
	}
	hasAddr := p.local.Addr().IsValid()
	if p.freeBind {
		if err := sockopt.FreeBind(fd); err != nil {
			return err
		}
	}
	switch {
	case p.chosen && p.lane != bindLane:
		return nil // the pool records what comes out
	case p.lane == rangeLane:
		if err := sockopt.OnePort(fd, p.local.Port()); err != nil || !hasAddr {
			return err
		}
		return sockopt.BindAddress(fd, p.local.Addr())
	case p.lane == kernelLane:
		if hasAddr {
			return sockopt.BindAddress(fd, p.local.Addr())
		}
	case p.lane == bindLane:
		if err := sockopt.ShareBind(fd); err != nil {
			return err
		}
		return p.onlyOneFamily(fd)
	case p.lane == aloneLane:
		if sockopt.SharesPort(fd) { // the caller's Control set it
			return errPortShared
		}
		if err := p.onlyOneFamily(fd); err != nil {
			return err
		}
		return sockopt.BindPort(fd, p.bound())
	case p.lane == sharedLane:
		if err := p.onlyOneFamily(fd); err != nil {
			return err
		}
		return p.guard.open(fd, p)
	}
	return nil
}

// bound returns the local end, with the unspecified address if the kernel chooses the address.
func (p *preparation) bound() netip.AddrPort {
	if p.local.Addr().IsValid() {
		return p.local
	}
	return netip.AddrPortFrom(unspecified(p.remote.Addr()), p.local.Port())
}

// onlyOneFamily keeps an IPv6 socket without an address from binding the port for IPv4 too.
func (p *preparation) onlyOneFamily(fd int) error {
	if p.local.Addr().IsValid() || p.remote.Addr().Is4() {
		return nil
	}
	return sockopt.OnlyIPv6(fd)
}
