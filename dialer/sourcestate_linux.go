package dialer

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// sourceState returns why an address of an interface cannot be a source now, and what to do. It returns "" if no
// interface has the address, or if nothing is wrong.
func sourceState(source netip.Addr) (why, fix string) {
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil || prefix.Addr().Unmap() != source.WithZone("") {
				continue
			}
			if why, fix := tentative(source); why != "" {
				return why, fix
			}
			if vrf := vrfOf(i.Name); vrf != "" {
				return "the source address is in a VRF, and the socket is not",
					fmt.Sprintf("bind the socket to the VRF in a Control of NetDialer (SO_BINDTODEVICE %q)", vrf)
			}
		}
	}
	return "", ""
}

// These are flags of include/uapi/linux/if_addr.h.
const (
	flagTentative = 0x40 // IFA_F_TENTATIVE
	flagFailed    = 0x08 // IFA_F_DADFAILED
)

// tentative says whether duplicate address detection (RFC 4862, 5.4) keeps an IPv6 address from being used.
func tentative(source netip.Addr) (why, fix string) {
	if !source.Is6() {
		return "", ""
	}
	list, _ := os.ReadFile("/proc/net/if_inet6")
	address := source.As16()
	for line := range strings.Lines(string(list)) {
		f := strings.Fields(line)
		if len(f) < 5 || f[0] != hex.EncodeToString(address[:]) {
			continue
		}
		switch flags, _ := strconv.ParseUint(f[4], 16, 32); {
		case flags&flagFailed != 0:
			return "another host has the source address (duplicate address detection failed)",
				"give one of the hosts another address"
		case flags&flagTentative != 0:
			return "the source address is tentative (duplicate address detection is still running)",
				"wait a second, or add it with nodad"
		}
	}
	return "", ""
}

// vrfOf returns the VRF of an interface, "" if it has none.
func vrfOf(name string) string {
	master, err := os.Readlink(filepath.Join("/sys/class/net", name, "master"))
	if err != nil {
		return ""
	}
	vrf := filepath.Base(master)
	event, _ := os.ReadFile(filepath.Join("/sys/class/net", vrf, "uevent"))
	if strings.Contains(string(event), "DEVTYPE=vrf\n") {
		return vrf
	}
	return ""
}
