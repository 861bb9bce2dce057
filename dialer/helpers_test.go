package dialer_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

// soon is how long a test waits at most. It measures nothing.
const soon = 20 * time.Second

// If EPHEMERA_OLD_KERNEL is set, TestMain makes the dialer behave as before Linux 6.3, so that all tests run on those
// paths too: ports are bound, or the kernel chooses them if the pool has its whole range.
func TestMain(m *testing.M) {
	if os.Getenv("EPHEMERA_OLD_KERNEL") != "" {
		dialer.ForceOldKernel()
	}
	goleak.VerifyTestMain(m)
}

// peer is a listener that hands out its connections.
type peer struct {
	net.Listener
	conns chan *net.TCPConn
}

// listen listens until the test ends, and then closes the connections that nobody took.
func listen(t testing.TB, network, address string) *peer {
	t.Helper()
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	p := &peer{l, make(chan *net.TCPConn, 1024)}
	var done sync.WaitGroup
	done.Go(func() {
		defer close(p.conns)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.conns <- c.(*net.TCPConn)
		}
	})
	t.Cleanup(func() {
		l.Close()
		for c := range p.conns {
			c.Close()
		}
		done.Wait()
	})
	return p
}

func (p *peer) addr() string { return p.Addr().String() }

func (p *peer) addrPort() netip.AddrPort { return p.Addr().(*net.TCPAddr).AddrPort() }

// accept returns the peer's end of c.
func (p *peer) accept(t testing.TB, c net.Conn) *net.TCPConn {
	t.Helper()
	for {
		select {
		case a := <-p.conns:
			require.NotNil(t, a)
			if a.RemoteAddr().String() == c.LocalAddr().String() {
				t.Cleanup(func() { a.Close() })
				return a
			}
			a.Close()
		case <-time.After(soon):
			require.FailNow(t, "nothing to accept")
		}
	}
}

// listenAndHangUp listens until the test ends. It closes each connection when the peer has closed it.
func listenAndHangUp(t testing.TB, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				io.Copy(io.Discard, c)
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l
}

// pool returns a pool with these ports, in the syntax of alloc.ParseSet, and sources.
func pool(ports string, sources ...string) *tuple.Pool {
	p := &tuple.Pool{Ports: alloc.MustParseSet(ports)}
	for _, s := range sources {
		p.Sources = append(p.Sources, netip.MustParsePrefix(s))
	}
	return p
}

// dial dials and expects a TCPConn, which is closed at the latest when the test ends.
func dial(t testing.TB, d *dialer.Dialer, address string) *dialer.TCPConn {
	t.Helper()
	c, err := d.Dial("tcp", address)
	require.NoError(t, err)
	require.IsType(t, (*dialer.TCPConn)(nil), c)
	t.Cleanup(func() { c.Close() })
	return c.(*dialer.TCPConn)
}

// reset closes c and leaves nothing of it at either end.
func reset(c *dialer.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

func local(c net.Conn) netip.AddrPort { return c.LocalAddr().(*net.TCPAddr).AddrPort() }

// requireEmpty waits until p holds nothing.
func requireEmpty(t testing.TB, p *tuple.Pool) {
	t.Helper()
	require.Eventually(t, func() bool { return p.Stats() == tuple.Stats{} }, soon, time.Millisecond,
		"the pool must come to hold nothing")
}

// closedPort returns an address of ip where nobody listens.
func closedPort(t testing.TB, ip string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// hosts is a resolver for its names. It answers DNS messages without a network.
type hosts map[string][]string

func (h hosts) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go h.serve(server)
		return client, nil
	}}
}

// serve answers questions on a stream (RFC 1035): each message has its length before it.
func (h hosts) serve(c net.Conn) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, question); err != nil {
			return
		}
		answer := h.answer(question)
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

func (h hosts) answer(question []byte) []byte {
	const header, typeA, typeAAAA = 12, 1, 28
	end, name := header, ""
	for question[end] != 0 {
		n := int(question[end])
		name += string(question[end+1:end+1+n]) + "."
		end += 1 + n
	}
	asked := binary.BigEndian.Uint16(question[end+1:])
	end += 5

	ips, known := h[name[:len(name)-1]]
	var records []byte
	count := uint16(0)
	for _, s := range ips {
		ip := netip.MustParseAddr(s)
		if ip.Is4() != (asked == typeA) || asked != typeA && asked != typeAAAA {
			continue
		}
		count++
		records = append(records, 0xc0, header) // the name of the question
		records = binary.BigEndian.AppendUint16(records, asked)
		records = append(records, 0, 1, 0, 0, 0, 60) // IN, for 60 s
		records = binary.BigEndian.AppendUint16(records, uint16(ip.BitLen()/8))
		records = append(records, ip.AsSlice()...)
	}
	answer := append([]byte(nil), question[:end]...)
	binary.BigEndian.PutUint16(answer[2:], 0x8180) // an answer, recursion was available
	if !known {
		answer[3] |= 3 // NXDOMAIN
	}
	binary.BigEndian.PutUint16(answer[6:], count)
	clear(answer[8:header])
	return append(answer, records...)
}
