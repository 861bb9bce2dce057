//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

type dialFunc = func(network, address string) (net.Conn, error)

// contenders are the plain net.Dialer, one with IP_LOCAL_PORT_RANGE over the whole range, and ephemera with the kernel's
// ports and with others from one source address.
var contenders = []struct {
	name string
	dial func() dialFunc
}{
	{"net", func() dialFunc { return new(net.Dialer).Dial }},
	{"oneliner", func() dialFunc {
		return (&net.Dialer{Control: wholeRange}).Dial
	}},
	{"range", func() dialFunc {
		return (&dialer.Dialer{TCP: &tuple.Pool{Ports: alloc.RangeSet(firstPort, firstPort+ports-1)}}).Dial
	}},
	{"bind", func() dialFunc {
		return (&dialer.Dialer{TCP: &tuple.Pool{
			Sources: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
			Ports:   alloc.RangeSet(bindFirst, bindFirst+ports-1),
		}}).Dial
	}},
}

// wholeRange is the best that a Control of a few lines can do: with any IP_LOCAL_PORT_RANGE the kernel starts its search at
// random and does not try the ports of one parity first.
func wholeRange(_, _ string, c syscall.RawConn) (err error) {
	ends := uint32(firstPort+ports-1)<<16 | firstPort
	controlErr := c.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, int(int32(ends))),
		)
	})
	return errors.Join(err, controlErr)
}

// request is a turn: hold so many connections, then time so many dials, which must Fail or must not.
type request struct {
	Hold, Dials int
	Fail        bool
}

// contend dials address as the contender of this name, turn by turn, until standard input ends.
func contend(name, address string) error {
	var dial dialFunc
	for _, c := range contenders {
		if c.name == name {
			dial = c.dial()
		}
	}
	if dial == nil {
		return fmt.Errorf("no contender is called %q", name)
	}
	var held []net.Conn
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var turn request
		if err := in.Decode(&turn); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		for len(held) < turn.Hold {
			c, err := dial("tcp", address)
			if err != nil {
				return err
			}
			held = append(held, c)
			abortOnClose(c)
		}
		times := make([]time.Duration, turn.Dials)
		for i := range times {
			start := time.Now()
			c, err := dial("tcp", address)
			times[i] = time.Since(start)
			if (err != nil) != turn.Fail {
				return fmt.Errorf("with %d of %d ports held, dial: %v", len(held), ports, err)
			}
			if err == nil {
				abortOnClose(c)
				c.Close()
			}
		}
		if err := out.Encode(times); err != nil {
			return err
		}
	}
}

// abortOnClose keeps TIME_WAIT out of the measurement.
func abortOnClose(c net.Conn) { c.(interface{ SetLinger(int) error }).SetLinger(0) }

// listen accepts connections on an address of its own and keeps each until the peer closes it.
func listen() error {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.1.%d:80", 1+os.Getpid()%250))
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(l.Addr().String()); err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(io.Discard, c)
			}()
		}
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
