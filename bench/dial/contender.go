//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

// contenders are the plain net.Dialer, one with a LocalAddr, one with IP_LOCAL_PORT_RANGE over the whole range,
// ephemera with the kernel's ports and no source address, and ephemera with ports that are not the kernel's and a
// source address.
var contenders = []string{"net", "localaddr", "oneliner", "range", "bind"}

// source is where all leave from, whether they say so or not, and destination where they go: each in a namespace of
// its own.
var (
	source      = netip.MustParseAddr("127.0.0.1")
	destination = netip.MustParseAddrPort("127.0.1.1:80")
)

// controlFunc is a net.Dialer's Control.
type controlFunc = func(network, address string, c syscall.RawConn) error

// contender is a way to dial.
type contender struct {
	name        string
	first, last uint16      // the ports
	pool        *tuple.Pool // that chooses among them; nil if the kernel does

	// What it sets in a net.Dialer.
	source  net.IP
	control controlFunc
}

// newContender returns a contender with so many ports: 32768-60999, the range of most hosts, 1024-65535, all that
// need no privilege, or some in between. No listener's port is among them.
func newContender(name string, ports int) (*contender, error) {
	const usual, most = 32768, 65536 - 1024
	if ports < 2 || ports > most || ports%2 != 0 {
		return nil, fmt.Errorf("%d ports: take an even number, for connect leaves the last of an odd one, from 2 to %d", ports, most)
	}
	first := min(usual, 65536-ports)
	c := &contender{name: name, first: uint16(first), last: uint16(first + ports - 1)}
	set := alloc.RangeSet(c.first, c.last)
	switch name {
	case "net":
	case "localaddr":
		c.source = source.AsSlice()
	case "oneliner":
		// The best that a Control of a few lines can do: with any IP_LOCAL_PORT_RANGE the kernel starts its search at random
		// and does not try the ports of one parity first.
		c.control = portRange(c.first, c.last)
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

// dialer returns how it dials what is timed.
func (c *contender) dialer() dialFunc {
	if c.pool != nil {
		return (&dialer.Dialer{TCP: c.pool}).Dial
	}
	return c.netDialer().Dial
}

// filler returns how it dials what is only held: from this port, or one of the kernel's choice if it is 0.
func (c *contender) filler(port uint16) dialFunc {
	nd := c.netDialer()
	nd.KeepAlive = -1 // 64,512 connections would send 4,300 probes a second while dials are timed
	switch {
	case port == 0:
	case c.name == "net": // whose ports are not bound
		nd.Control = portRange(port, port)
	default:
		nd.LocalAddr = &net.TCPAddr{IP: c.source, Port: int(port)}
	}
	if c.pool == nil {
		return nd.Dial
	}
	return (&dialer.Dialer{NetDialer: nd, TCP: c.pool}).Dial
}

func (c *contender) netDialer() *net.Dialer {
	nd := &net.Dialer{Control: c.control}
	if c.source != nil {
		nd.LocalAddr = &net.TCPAddr{IP: c.source}
	}
	return nd
}

// portRange has the kernel choose among the ports from first to last.
func portRange(first, last uint16) controlFunc {
	return func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, int(int32(uint32(last)<<16|uint32(first)))),
			)
		})
		return errors.Join(err, controlErr)
	}
}
