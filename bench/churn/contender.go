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

// The contenders of a cell without and with a source address. The first contender is the one that the others are
// compared with.
//
//   - net is the zero net.Dialer. zero is the zero Dialer.
//   - random is net.Dialer with a Control that names one port at random, and another one if the kernel refuses it. It
//     shows what unpredictable ports cost the kernel. The ports that the kernel chooses follow each other, and so does
//     the memory that it touches for them.
//   - noport is net.Dialer with a LocalAddr and a Control that sets IP_BIND_ADDRESS_NO_PORT. That is the best that
//     net.Dialer can do with a source address: bind reserves no port, and connect chooses one.
//   - localaddr is net.Dialer with a LocalAddr only. Its bind reserves a port that no other connection has, not even
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

// newContender returns the dial function of a contender.
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
	return nil, fmt.Errorf("no contender has this name: %q", name)
}

// bindNoPort is a Control for net.Dialer. It makes connect choose the port instead of bind.
func bindNoPort(_, _ string, raw syscall.RawConn) (err error) {
	controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
	return cmp.Or(err, controlErr)
}

// dialRandom returns a dial function that names one of the ports at random by IP_LOCAL_PORT_RANGE.
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
