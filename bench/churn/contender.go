//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

// The contenders of a cell without a source address and of one with it. The others are compared with the first.
//
//   - net is the zero net.Dialer, and zero the zero Dialer.
//   - random is net.Dialer with a Control that names one port at random, and another one where the kernel refuses it. It
//     shows what a port that nobody can predict costs the kernel: its own choices follow each other, and so does the
//     memory that it touches for them.
//   - noport is net.Dialer with a LocalAddr, and a Control that sets IP_BIND_ADDRESS_NO_PORT. It is the best that
//     net.Dialer can do with a source address: bind then reserves no port, and connect chooses one.
//   - localaddr is net.Dialer with a LocalAddr alone. Its bind reserves a port that no other connection has, not even
//     one in TIME_WAIT.
//   - pool is Dialer with a Pool that has the source address and the ports of the host.
var (
	withoutSource = []string{"net", "zero", "random"}
	withSource    = []string{"noport", "localaddr", "pool"}
)

func (c cell) contenders() []string {
	if c.Source {
		return withSource
	}
	return withoutSource
}

type dialFunc = func(network, address string) (net.Conn, error)

// newContender returns how a contender dials from a source address.
func newContender(name string, source netip.Addr, ports alloc.Set) (dialFunc, error) {
	local := &net.TCPAddr{IP: source.AsSlice()}
	switch name {
	case "net":
		return (&net.Dialer{}).Dial, nil
	case "zero":
		return (&dialer.Dialer{}).Dial, nil
	case "random":
		return dialRandom(slices.Collect(ports.All())), nil
	case "noport":
		return (&net.Dialer{LocalAddr: local, Control: bindNoPort}).Dial, nil
	case "localaddr":
		return (&net.Dialer{LocalAddr: local}).Dial, nil
	case "pool":
		sources := []netip.Prefix{netip.PrefixFrom(source, source.BitLen())}
		return (&dialer.Dialer{TCP: &tuple.Pool{Sources: sources, Ports: ports}}).Dial, nil
	}
	return nil, fmt.Errorf("no contender is called %q", name)
}

// bindNoPort is a net.Dialer's Control that leaves the choice of the port to connect.
func bindNoPort(_, _ string, raw syscall.RawConn) (err error) {
	controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
	return cmp.Or(err, controlErr)
}

// dialRandom returns a net.Dialer's Dial from one of the ports, which it chooses by IP_LOCAL_PORT_RANGE.
func dialRandom(ports []uint16) dialFunc {
	const tries = 8
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		port := int(ports[rand.IntN(len(ports))])
		controlErr := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, int(int32(port<<16|port)))
		})
		return cmp.Or(err, controlErr)
	}}
	return func(network, address string) (c net.Conn, err error) {
		for range tries {
			if c, err = d.Dial(network, address); !errors.Is(err, unix.EADDRNOTAVAIL) {
				break
			}
		}
		return c, err
	}
}
