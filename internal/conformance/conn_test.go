package conformance

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

// A TCPConn behaves as a net.Conn must, in the lane for ports in the kernel's range and in the lane for other ports, at
// either end of the connection.
func TestConn(t *testing.T) {
	host, err := dialer.HostPorts()
	if err != nil {
		t.Fatal(err)
	}
	source := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	for _, tc := range []struct {
		name string
		pool *tuple.Pool
	}{
		{"pool=host", nil},
		{"pool=source", &tuple.Pool{Sources: source, Ports: host}},
		{"pool=other-ports", &tuple.Pool{Sources: source, Ports: alloc.RangeSet(1024, 65535).Difference(host)}},
	} {
		d := dialer.Dialer{TCP: tc.pool}
		t.Run(tc.name, func(t *testing.T) {
			nettest.TestConn(t, pipe(&d, false))
		})
		t.Run(tc.name+"/swapped", func(t *testing.T) {
			nettest.TestConn(t, pipe(&d, true))
		})
		if tc.pool != nil {
			if n := tc.pool.Stats().InUse; n != 0 {
				t.Errorf("%s: %d tuples are in use after every connection was closed", tc.name, n)
			}
		}
	}
}

// pipe makes the two ends of a connection. The first is the dialled one, or the accepted one if swapped is true.
func pipe(d *dialer.Dialer, swapped bool) nettest.MakePipe {
	return func() (c1, c2 net.Conn, stop func(), err error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, nil, err
		}
		defer l.Close()
		type accepted struct {
			net.Conn
			error
		}
		ch := make(chan accepted, 1)
		go func() {
			c, err := l.Accept()
			ch <- accepted{c, err}
		}()
		c1, err = d.Dial("tcp", l.Addr().String())
		if err != nil {
			return nil, nil, nil, err
		}
		a := <-ch
		if a.error != nil {
			c1.Close()
			return nil, nil, nil, a.error
		}
		c2 = a.Conn
		if swapped {
			c1, c2 = c2, c1
		}
		return c1, c2, func() { c1.Close(); c2.Close() }, nil
	}
}
