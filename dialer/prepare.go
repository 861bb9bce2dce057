package dialer

import (
	"net/netip"

	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// preparation is what a socket needs before it is bound and connected.
type preparation struct {
	lane      lane
	local     netip.AddrPort // its address may be left to the kernel
	remote    netip.Addr
	namespace uint64 // the one in which the lane is right; 0: any
	freeBind  bool
}

func (a *attempt) preparation(t tuple.Tuple, l lane) preparation {
	p := preparation{lane: l, local: a.localOf(t), remote: a.remote.Addr()}
	p.freeBind = a.FreeBind && p.local.Addr().IsValid()
	if l == bindLane && !a.udp {
		p.namespace = a.facts.namespace
	}
	return p
}

// on prepares the socket fd. Where the kernel is to choose the port, or has but one to choose, it binds it to its address too:
// net.Dialer would try twice more if the host lacks it.
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
	switch p.lane {
	case rangeLane:
		if err := sockopt.OnePort(fd, p.local.Port()); err != nil || !hasAddr {
			return err
		}
		return sockopt.BindAddress(fd, p.local.Addr())
	case kernelLane:
		if hasAddr {
			return sockopt.BindAddress(fd, p.local.Addr())
		}
	case bindLane:
		if err := sockopt.ShareBind(fd); err != nil || hasAddr || p.remote.Is4() {
			return err
		}
		return sockopt.OnlyIPv6(fd)
	}
	return nil
}
