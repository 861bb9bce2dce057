package dialer

import (
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// bindSource binds the socket to ip, and to no port yet.
func bindSource(fd int, ip netip.Addr) error {
	if ip.Is4() {
		return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrInet4{Addr: ip.As4()}))
	}
	return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrInet6{Addr: ip.As16(), ZoneId: zoneID(ip.Zone())}))
}

// zoneID returns the index of the interface that a zone names, 0 if there is none.
func zoneID(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if ifi, err := net.InterfaceByName(zone); err == nil {
		return uint32(ifi.Index)
	}
	index, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(index)
}
