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
			return nil, fmt.Errorf("--to %s is the same listener as %s: it has each source port only once; name each listener once", item, first)
		}
		seen[dst] = item
		to = append(to, dst)
	}
	return to, nil
}

func parseDestination(ctx context.Context, item string, source netip.Addr) (netip.AddrPort, error) {
	fail := func(format string, args ...any) (netip.AddrPort, error) {
		return netip.AddrPort{}, fmt.Errorf("--to %q: "+format, append([]any{item}, args...)...)
	}
	host, service, err := net.SplitHostPort(item)
	if err != nil || host == "" {
		return fail("not host:port, as in 192.0.2.1:80,[2001:db8::1]:80")
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return fail("no such port: %q", service)
	}
	if port == 0 {
		return fail("nothing listens on port 0")
	}
	addr, err := resolve(ctx, host, source)
	if err != nil {
		return fail("%w", err)
	}
	switch {
	case addr.IsUnspecified():
		return fail("%s is where a listener waits, not an address to connect to; this host is 127.0.0.1 or ::1", addr)
	case addr.Zone() != "":
		return fail("addresses with a zone are not supported")
	case addr.Is4() != source.Is4():
		return fail("%s cannot be reached from %s; give a --source of the same family", addr, source)
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

// ownAddress returns the address of the i-th listener of a run's own. A listener blocks its port on its own address
// only, so each has an address that no connection is dialed from; IPv6 has only one loopback address, and there the
// source serves.
func ownAddress(i int, source netip.Addr) netip.Addr {
	if source.Is6() {
		return source
	}
	return netip.AddrFrom4([4]byte{127, 0, byte(1 + i/254), byte(1 + i%254)})
}

// hint says what the kernel's "invalid argument" does not.
func (r result) hint() string {
	if !r.source.IsLoopback() {
		return ""
	}
	for _, dst := range r.to {
		if !dst.Addr().IsLoopback() {
			return fmt.Sprintf(" (%s reaches this host only: to dial another, give --source)", r.source)
		}
	}
	return ""
}
