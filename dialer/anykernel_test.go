package dialer_test

import (
	"context"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// The tests of this file pass on every system, and in a sandbox whose kernel is not Linux: `.ci/run gvisor` runs them
// there.

// alone gives a test a private network without the ports of other programs, if the system has that. EPHEMERA_SANDBOX
// says that the whole process is in a sandbox with its own network.
func alone(t *testing.T) bool {
	t.Helper()
	return runtime.GOOS != "linux" || os.Getenv("EPHEMERA_SANDBOX") != "" ||
		netns.Isolate(t, "net.ipv4.ip_local_port_range=32768 60999")
}

// reached returns how many connections have reached the peer. It dials last, from closedPort, because the peer accepts
// in order.
func (p *peer) reached(t testing.TB, last string) (n int) {
	t.Helper()
	from, err := net.ResolveTCPAddr("tcp", last)
	require.NoError(t, err)
	c, err := (&net.Dialer{LocalAddr: from}).Dial("tcp", p.addr())
	require.NoError(t, err)
	c.(*net.TCPConn).SetLinger(0)
	defer c.Close()
	for {
		select {
		case a := <-p.conns:
			require.NotNil(t, a)
			t.Cleanup(func() { a.Close() })
			if a.RemoteAddr().String() == last {
				return n
			}
			n++
		case <-time.After(soon):
			require.FailNow(t, "nothing to accept")
		}
	}
}

// requireOneConnectionADial dials several times. All dials work, and the peer sees one connection for each. One dial
// may need one more connection to learn that the kernel accepts an option and ignores it.
func requireOneConnectionADial(t *testing.T, d *dialer.Dialer, to *peer, last string) {
	t.Helper()
	const dials = 20
	for range dials {
		c, err := d.Dial("tcp", to.addr())
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
	}
	require.LessOrEqual(t, to.reached(t, last), dials+1)
}

// kindsOfPools returns pools of each kind by name: with the ports of the host, with the default ports, and with ports
// on both sides of the kernel's range.
func kindsOfPools() map[string]*tuple.Pool {
	return map[string]*tuple.Pool{
		"of the host":           nil,
		"1024-65535":            new(tuple.Pool),
		"1024-65535, source":    {Sources: pool("1", "127.0.0.1/32").Sources},
		"few in the range":      pool("40000-40199", "127.0.0.1/32"),
		"most of the range":     pool("20000-65535"),
		"few outside the range": pool("2000-2199", "127.0.0.1/32"),
	}
}

// A dial makes one connection on every kernel.
func TestOnAnyKernelOneConnectionADial(t *testing.T) {
	if !alone(t) {
		return
	}
	for name, p := range kindsOfPools() {
		t.Run(name, func(t *testing.T) {
			to := listen(t, "tcp", "127.0.0.1:0")
			requireOneConnectionADial(t, &dialer.Dialer{TCP: p}, to, closedPort(t, "127.0.0.1"))
		})
	}
}

// UDP sockets are connected, and hear their peer.
func TestOnAnyKernelUDP(t *testing.T) {
	if !alone(t) {
		return
	}
	to, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer to.Close()
	for name, p := range kindsOfPools() {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				c, err := (&dialer.Dialer{UDP: p}).Dial("udp", to.LocalAddr().String())
				require.NoError(t, err)
				defer c.Close()
				_, err = to.WriteTo([]byte("x"), c.LocalAddr())
				require.NoError(t, err)
				require.NoError(t, c.SetReadDeadline(time.Now().Add(soon)))
				n, err := c.Read(make([]byte, 10))
				require.NoError(t, err)
				require.Equal(t, 1, n)
			}
		})
	}
	c, err := new(dialer.Dialer).ListenPacket(context.Background(), "udp4", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

// A connection that ends by a reset leaves nothing in the pool.
func TestOnAnyKernelAResetLeavesNothing(t *testing.T) {
	if !alone(t) {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:0")
	for name, p := range kindsOfPools() {
		if p == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			d := &dialer.Dialer{TCP: p}
			c := dial(t, d, to.addr())
			to.accept(t, c) // before the next one comes, perhaps from the same port
			require.NoError(t, c.Abort())
			c = dial(t, d, to.addr())
			a := to.accept(t, c)
			require.NoError(t, a.SetLinger(0))
			require.NoError(t, a.Close())
			require.NoError(t, c.SetReadDeadline(time.Now().Add(soon)))
			_, err := c.Read(make([]byte, 1))
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NoError(t, c.Close())
			requireEmpty(t, p)
		})
	}
}

// A refused dial returns an error, and holds nothing.
func TestOnAnyKernelARefusedDialLeavesNothing(t *testing.T) {
	if !alone(t) {
		return
	}
	to := closedPort(t, "127.0.0.1")
	for name, p := range kindsOfPools() {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				_, err := (&dialer.Dialer{TCP: p}).Dial("tcp", to)
				require.ErrorContains(t, err, "refused")
			}
			if p != nil {
				require.Zero(t, p.Stats().InUse+p.Stats().Retired, "what other programs of the host have is taken")
			}
		})
	}
}
