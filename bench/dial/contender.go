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

// contenders are the zero net.Dialer (net), one with a LocalAddr (localaddr), one with IP_LOCAL_PORT_RANGE over the
// whole range (oneliner), ephemera with the kernel's ports and no source address (range), and ephemera with a source
// address and ports outside the kernel's range (bind).
var contenders = []string{"net", "localaddr", "oneliner", "range", "bind"}

// Every connection leaves from source, whether the dialer names it or not, and goes to destination. Each contender has
// a network namespace of its own.
var (
	source      = netip.MustParseAddr("127.0.0.1")
	destination = netip.MustParseAddrPort("127.0.1.1:80")
)

// controlFunc is the type of net.Dialer's Control.
type controlFunc = func(network, address string, c syscall.RawConn) error

// contender is a way to dial.
type contender struct {
	name        string
	first, last uint16      // the ports, both inclusive
	pool        *tuple.Pool // chooses among them; nil if the kernel does

	// Fields of its net.Dialer.
	source  net.IP
	control controlFunc
}

// newContender returns a contender with this many ports. 28,232 ports are 32768-60999, the range of most hosts. 64,512
// ports are 1024-65535, all that need no privilege. The listener's port is not among them.
func newContender(name string, ports int) (*contender, error) {
	const usual, most = 32768, 65536 - 1024
	if ports < 2 || ports > most || ports%2 != 0 {
		return nil, fmt.Errorf("-ports: use an even number from 2 to %d, because connect never uses the last port of "+
			"an odd range (%d)", most, ports)
	}
	first := min(usual, 65536-ports)
	c := &contender{name: name, first: uint16(first), last: uint16(first + ports - 1)}
	set := alloc.RangeSet(c.first, c.last)
	switch name {
	case "net":
	case "localaddr":
		c.source = source.AsSlice()
	case "oneliner":
		// The best that a Control of a few lines can do. With IP_LOCAL_PORT_RANGE, the kernel starts its search at
		// random and does not try the ports of one parity first.
		c.control = portRange(c.first, c.last)
	case "range":
		c.pool = &tuple.Pool{Ports: set}
	case "bind":
		c.source = source.AsSlice()
		c.pool = &tuple.Pool{Ports: set, Sources: []netip.Prefix{netip.PrefixFrom(source, source.BitLen())}}
	default:
		return nil, fmt.Errorf("no contender has this name: %q", name)
	}
	return c, nil
}

// ports returns how many ports the contender has.
func (c *contender) ports() int { return int(c.last) - int(c.first) + 1 }

type dialFunc = func(network, address string) (net.Conn, error)

// dialer returns the dial function to time.
func (c *contender) dialer() dialFunc {
	if c.pool != nil {
		return (&dialer.Dialer{TCP: c.pool}).Dial
	}
	return c.netDialer().Dial
}

// filler returns the dial function for connections that are only held: from this port, or from one that the kernel
// chooses if it is 0.
func (c *contender) filler(port uint16) dialFunc {
	nd := c.netDialer()
	nd.KeepAlive = -1 // else 64,512 connections would send 4,300 probes a second
	switch {
	case port == 0:
	case c.name == "net": // it does not bind its ports
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

// portRange returns a Control that makes the kernel choose among the ports from first to last, both inclusive.
func portRange(first, last uint16) controlFunc {
	return func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE,
					int(int32(uint32(last)<<16|uint32(first)))),
			)
		})
		return errors.Join(err, controlErr)
	}
}
