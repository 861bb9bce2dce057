//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

// contenders are the plain net.Dialer, one with IP_LOCAL_PORT_RANGE over the whole range, ephemera with the kernel's ports and
// no source address, a net.Dialer with a LocalAddr, and ephemera with ports that are not the kernel's and a source address.
var contenders = []string{"net", "oneliner", "range", "localaddr", "bind"}

// source is where all leave from, whether they say so or not.
var source = netip.MustParseAddr("127.0.0.1")

// contender is a way to dial.
type contender struct {
	name        string
	first, last uint16         // the ports
	to          netip.AddrPort // the destination, which is its own
	pool        *tuple.Pool    // that chooses the ports; nil if the kernel does

	// What it sets in a net.Dialer.
	source  net.IP
	control func(network, address string, c syscall.RawConn) error
}

// newContender returns a contender with so many ports: 32768-60999, the range of most hosts, 1024-65535, all that need no
// privilege, or some in between. No listener's port is among them.
func newContender(name string, ports int) (*contender, error) {
	const usual, most = 32768, 65536 - 1024
	if ports < 2 || ports > most || ports%2 != 0 {
		return nil, fmt.Errorf("%d ports: take an even number, for connect leaves the last of an odd one, from 2 to %d", ports, most)
	}
	first := min(usual, 65536-ports)
	c := &contender{name: name, first: uint16(first), last: uint16(first + ports - 1)}
	c.to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + slices.Index(contenders, name))}), 80)
	set := alloc.RangeSet(c.first, c.last)
	switch name {
	case "net":
	case "localaddr":
		c.source = source.AsSlice()
	case "oneliner":
		c.control = c.wholeRange
	case "range":
		c.pool = &tuple.Pool{Ports: set}
	case "bind":
		c.source = source.AsSlice()
		c.pool = &tuple.Pool{Ports: set, Sources: []netip.Prefix{netip.PrefixFrom(source, source.BitLen())}}
	default:
		return nil, fmt.Errorf("no contender is called %q", name)
	}
	return c, nil
}

// ports is how many there are.
func (c *contender) ports() int { return int(c.last) - int(c.first) + 1 }

type dialFunc = func(network, address string) (net.Conn, error)

// dialer returns how it dials what is timed: from a port of the kernel's choice, or its pool's.
func (c *contender) dialer() dialFunc {
	if c.pool != nil {
		return (&dialer.Dialer{TCP: c.pool}).Dial
	}
	return c.netDialer(0).Dial
}

// filler returns how it dials what is only held: from this port, or one of the kernel's choice if it is 0.
func (c *contender) filler(port uint16) dialFunc {
	nd := c.netDialer(port)
	nd.KeepAlive = -1 // 64,512 connections would send 4,300 probes a second while others are timed
	if c.pool != nil {
		return (&dialer.Dialer{NetDialer: nd, TCP: c.pool}).Dial
	}
	return nd.Dial
}

func (c *contender) netDialer(port uint16) *net.Dialer {
	nd := &net.Dialer{Control: c.control}
	if c.source != nil || port != 0 {
		nd.LocalAddr = &net.TCPAddr{IP: c.source, Port: int(port)}
	}
	return nd
}

// wholeRange is the best that a Control of a few lines can do: with any IP_LOCAL_PORT_RANGE the kernel starts its search at
// random and does not try the ports of one parity first.
func (c *contender) wholeRange(_, _ string, raw syscall.RawConn) (err error) {
	ends := uint32(c.last)<<16 | uint32(c.first)
	controlErr := raw.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, int(int32(ends))),
		)
	})
	return errors.Join(err, controlErr)
}
