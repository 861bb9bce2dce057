package dialer

import (
	"net"
	"net/netip"

	"github.com/ephemera-go/ephemera/tuple"
)

// localOf returns the local end of t, as far as it is known before the kernel has chosen an address. It has the zone,
// which a tuple does not have.
func (a *attempt) localOf(t tuple.Tuple) netip.AddrPort {
	ip := t.Src().Addr()
	switch {
	case ip.IsUnspecified(), ip == a.local.Addr().WithZone(""):
		ip = a.local.Addr()
	case ip.IsLinkLocalUnicast():
		ip = ip.WithZone(a.remote.Addr().Zone())
	}
	return netip.AddrPortFrom(ip, t.Src().Port())
}

// localAddrPort and remoteAddrPort return the ends of a connection. They are not valid if the kernel did not tell.
func localAddrPort(conn net.Conn) netip.AddrPort  { return addrPortOf(conn.LocalAddr()) }
func remoteAddrPort(conn net.Conn) netip.AddrPort { return addrPortOf(conn.RemoteAddr()) }

func addrPortOf(addr net.Addr) netip.AddrPort {
	switch a := addr.(type) {
	case *net.TCPAddr:
		if a != nil {
			return a.AddrPort()
		}
	case *net.UDPAddr:
		if a != nil {
			return a.AddrPort()
		}
	}
	return netip.AddrPort{}
}

func unspecified(family netip.Addr) netip.Addr {
	if family.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// sameAddrPort compares without the zone, because the host's own addresses may or may not have one.
func sameAddrPort(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && a.Addr().Unmap().WithZone("") == b.Addr().Unmap().WithZone("")
}
