package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// parseDestinations reads "host:port,host:port". A name stands for its first address of the source's family.
func parseDestinations(ctx context.Context, list string, source netip.Addr) ([]netip.AddrPort, error) {
	var to []netip.AddrPort
	seen := make(map[netip.AddrPort]string)
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		dst, err := parseDestination(ctx, item, source)
		if err != nil {
			return nil, err
		}
		if first, dup := seen[dst]; dup {
			return nil, fmt.Errorf("--to has the same listener twice: name each listener once (%s and %s)", first, item)
		}
		seen[dst] = item
		to = append(to, dst)
	}
	return to, nil
}

func parseDestination(ctx context.Context, item string, source netip.Addr) (netip.AddrPort, error) {
	fail := func(format string, args ...any) (netip.AddrPort, error) {
		return netip.AddrPort{}, fmt.Errorf("--to: "+format+" (%q)", append(args, item)...)
	}
	host, service, err := net.SplitHostPort(item)
	if err != nil || host == "" {
		return fail("not host:port: write it as in 192.0.2.1:80,[2001:db8::1]:80")
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return fail("no such port: name a number from 1 to 65535, or a service")
	}
	if port == 0 {
		return fail("nothing can listen on port 0: name another port")
	}
	addr, err := resolve(ctx, host, source)
	if err != nil {
		return fail("%w", err)
	}
	switch {
	case addr.IsUnspecified():
		return fail("an unspecified address is not an address to connect to: use 127.0.0.1 or ::1 for this host")
	case addr.Zone() != "":
		return fail("an address with a zone is not supported: name one without")
	case addr.Is4() != source.Is4():
		return fail("its address family is not that of the source: name a --source of the same family")
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}

func resolve(ctx context.Context, host string, source netip.Addr) (netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap(), nil
	}
	family := "ip6"
	if source.Is4() {
		family = "ip4"
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, family, host)
	if err != nil {
		return netip.Addr{}, err
	}
	return addrs[0].Unmap(), nil
}

// ownAddress returns the address of the i-th listener that a run starts. A listener blocks its port on its own address
// only, so each one has an address of its own, which is not the source. IPv6 has only one loopback address, so there it
// is the source.
func ownAddress(i int, source netip.Addr) netip.Addr {
	if source.Is6() {
		return source
	}
	return netip.AddrFrom4([4]byte{127, 0, byte(1 + i/254), byte(1 + i%254)})
}

// hint explains the kernel's "invalid argument" for a loopback source that dials another host.
func (r result) hint() string {
	if !r.source.IsLoopback() {
		return ""
	}
	for _, dst := range r.to {
		if !dst.Addr().IsLoopback() {
			return fmt.Sprintf("; a loopback source reaches only this host: set another --source (%s)", r.source)
		}
	}
	return ""
}
