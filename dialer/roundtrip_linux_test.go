package dialer_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// Over a link with a round trip, the kernel keeps a tuple for a while after close(2): until the last acknowledgement of
// a peer that closed first, until its answer to our FIN, and longer if a packet is lost or the peer is silent. No dial
// fails while half of the ports are free in the kernel, however connections end.
//
// All cases run at the same time, each over its own link. Only failures count; no time is measured.
func TestNoDialFailsOverARoundTrip(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 49999") {
		return
	}
	const oneWay = 50 * time.Millisecond
	// A connection needs a tuple for about 0.3 s, 0.1 s of them after close(2): 18 tuples at 60 dials a second.
	lossy := netns.Link{Loss: 0.02, Seed: 1}
	cases := []*farCase{
		{name: "the peer closes first", ports: "40000-40059", use: peerFirst},
		{name: "the peer closes first, bound ports", ports: "20000-20059", use: peerFirst},
		{name: "the peer closes first, 2 % loss", ports: "40000-40059", link: lossy, use: peerFirst},
		{name: "the peer closes last", ports: "40000-40599", use: weFirst}, // 60 s of TIME_WAIT for 360 of them
		{name: "the peer resets", ports: "40000-40059", use: peerResets},
		{name: "we reset", ports: "40000-40059", use: weReset},
		{name: "others are cancelled half way", ports: "40000-40079", use: peerFirst, cancels: oneWay / 2},
		{name: "some peers are silent", ports: "40000-40059", use: peerFirst, silent: 12},
	}
	for _, c := range cases {
		c.link.OneWay = oneWay
		c.open(t)
	}
	var all sync.WaitGroup
	for _, c := range cases {
		all.Go(c.run)
	}
	all.Wait()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			require.NotZero(t, c.done)
			require.Empty(t, c.failures, "%d dials failed, %d did not", c.failed, c.done)
			if c.silent == 0 {
				require.Eventually(t, func() bool { return c.dialer.TCP.Stats().InUse == 0 }, soon, time.Millisecond)
			}
		})
	}
}

const (
	farRate = 60              // dials a second
	farTime = 6 * time.Second // how long
)

// farCase is one way in which connections to a far host end, again and again.
type farCase struct {
	name    string
	ports   string
	link    netns.Link
	use     func(c *dialer.TCPConn) error
	cancels time.Duration // each second dial has another one beside it, which is cancelled after this time; 0: none has
	silent  int           // how many connections are open at first whose peers are silent when they are closed

	wire   *netns.Wire
	dialer *dialer.Dialer
	to     string

	mu       sync.Mutex
	done     int
	failed   int
	failures map[string]int
}

// What the client tells the far host to do.
const (
	closeFirst = 'f' // say a word and close
	closeLast  = 'l' // say a word and close when the client has
	resetIt    = 'r'
)

func (c *farCase) open(t *testing.T) {
	c.wire = netns.NewLink(t, c.link)
	c.failures = make(map[string]int)
	source := netip.PrefixFrom(c.wire.Near.Addr, 32).String()
	c.dialer = &dialer.Dialer{TCP: pool(c.ports, source), NetDialer: &net.Dialer{Timeout: soon}}
	c.wire.Far.Do(func() { c.to = serveFar(t, netip.AddrPortFrom(c.wire.Far.Addr, 9000).String()) })
}

// serveFar does what the client tells it until the test ends.
func serveFar(t *testing.T, address string) string {
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer a.Close()
				defer context.AfterFunc(ctx, func() { a.Close() })()
				var told [1]byte
				if _, err := io.ReadFull(a, told[:]); err != nil {
					return
				}
				switch told[0] {
				case closeFirst:
					a.Write(told[:])
				case closeLast:
					a.Write(told[:])
					io.Copy(io.Discard, a)
				case resetIt:
					a.(*net.TCPConn).SetLinger(0)
				}
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

func (c *farCase) run() {
	if c.silent > 0 {
		c.fallSilent()
	}
	var all sync.WaitGroup
	tick := time.NewTicker(time.Second / farRate)
	defer tick.Stop()
	end := time.After(farTime)
	for n := 0; ; n++ {
		select {
		case <-end:
			all.Wait()
			return
		case <-tick.C:
		}
		all.Go(func() { c.count(c.once(c.use)) })
		if c.cancels > 0 && n%2 == 0 {
			all.Go(func() { c.count(c.cancelled()) })
		}
	}
}

// count counts a dial by its error. It shortens the text of exhaustion, which varies.
func (c *farCase) count(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.done++
	case errors.Is(err, tuple.ErrExhausted):
		c.failed++
		c.failures["no port is free"]++
	default:
		c.failed++
		c.failures[err.Error()]++
	}
}

func (c *farCase) once(use func(*dialer.TCPConn) error) error {
	conn, err := c.dialer.Dial("tcp", c.to)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(soon))
	return use(conn.(*dialer.TCPConn))
}

// cancelled dials and gives up before the peer can answer.
func (c *farCase) cancelled() error {
	ctx, cancel := context.WithTimeout(context.Background(), c.cancels)
	defer cancel()
	conn, err := c.dialer.DialContext(ctx, "tcp", c.to)
	if err == nil { // the host was busy just then
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(soon))
		return peerFirst(conn.(*dialer.TCPConn))
	}
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		return nil
	}
	return err
}

// fallSilent opens connections, and the peer closes half of them. Then it loses all packets of the peer, and closes the
// connections.
func (c *farCase) fallSilent() {
	silent := make(map[uint16]bool)
	var conns []*dialer.TCPConn
	for n := range c.silent {
		conn, err := c.dialer.Dial("tcp", c.to)
		if err != nil {
			c.count(err)
			continue
		}
		conns = append(conns, conn.(*dialer.TCPConn))
		silent[local(conn).Port()] = true
		if n%2 == 0 {
			say(conns[len(conns)-1], closeFirst)
			io.Copy(io.Discard, conn)
		}
	}
	c.wire.Drop(func(packet []byte) bool {
		const header, ports = 20, 4 // of IPv4 without options
		if len(packet) < header+ports || packet[0] != 0x45 {
			return false
		}
		src, dst := binary.BigEndian.Uint16(packet[header:]), binary.BigEndian.Uint16(packet[header+2:])
		return silent[src] || silent[dst]
	})
	for _, conn := range conns {
		conn.Close()
	}
}

func say(c *dialer.TCPConn, what byte) error {
	_, err := c.Write([]byte{what})
	return err
}

func peerFirst(c *dialer.TCPConn) error {
	say(c, closeFirst)
	if n, err := io.Copy(io.Discard, c); err != nil || n != 1 {
		return fmt.Errorf("%d bytes read: %w", n, err)
	}
	return nil
}

func weFirst(c *dialer.TCPConn) error {
	say(c, closeLast)
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func weReset(c *dialer.TCPConn) error {
	if err := weFirst(c); err != nil {
		return err
	}
	return c.SetLinger(0)
}

func peerResets(c *dialer.TCPConn) error {
	say(c, resetIt)
	if _, err := io.Copy(io.Discard, c); err == nil {
		return errors.New("the peer did not reset the connection")
	}
	return nil
}
