//go:build linux

package main

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

// contender is a way to dial.
type contender struct {
	protocol, name string
	against        string // the contender of the same protocol to compare it with; empty for a baseline
}

// contenders are net.Dialer without (net) and with a LocalAddr (localaddr), the zero Dialer (zero), Dialer with a
// Tracker (tracker), and Dialer with a Pool that has the source address and the ports of the host (pool).
var contenders = []contender{
	{"tcp", "net", ""},
	{"tcp", "zero", "net"},
	{"tcp", "tracker", "net"},
	{"tcp", "localaddr", ""},
	{"tcp", "pool", "localaddr"},
	{"udp", "net", ""},
	{"udp", "zero", "net"},
	{"udp", "pool", "net"},
}

// row returns the name of a contender in the output.
func (c contender) row() string { return "BenchmarkCost/impl=" + c.name + "/protocol=" + c.protocol }

type dialFunc = func(network, address string) (net.Conn, error)

// dialer returns the dial function of a contender. A pool has this source address and these ports.
func (c contender) dialer(source netip.Addr, ports alloc.Set) (dialFunc, error) {
	switch c.name {
	case "net":
		return (&net.Dialer{}).Dial, nil
	case "zero":
		return (&dialer.Dialer{}).Dial, nil
	case "tracker":
		return (&dialer.Dialer{Tracker: new(dialer.Tracker)}).Dial, nil
	case "localaddr":
		return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: source.AsSlice()}}).Dial, nil
	case "pool":
		pool := &tuple.Pool{Sources: []netip.Prefix{netip.PrefixFrom(source, source.BitLen())}, Ports: ports}
		return (&dialer.Dialer{TCP: pool, UDP: pool}).Dial, nil
	}
	return nil, fmt.Errorf("no contender has this name: %q", c.name)
}
