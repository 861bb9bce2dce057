package dialer_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// All addresses of a name are tried before a dial waits for a tuple towards any of them.
func TestAllAddressesAreTriedBeforeADialWaits(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	names := hosts{"two.test": {"127.0.0.1", "127.0.0.2"}, "both.test": {"::1", "127.0.0.2"}}
	for name, busy := range map[string]string{"two.test:9000": "127.0.0.1:9000", "both.test:9000": "[::1]:9000"} {
		t.Run(name, func(t *testing.T) {
			full, free := listen(t, "tcp", busy), listen(t, "tcp", "127.0.0.2:9000")
			var waits atomic.Int32
			p := pool("40000")
			p.Trace = &tuple.Trace{WaitStart: func(netip.AddrPort) { waits.Add(1) }}
			d := &dialer.Dialer{
				TCP: p, Wait: soon,
				NetDialer: &net.Dialer{Resolver: names.resolver(), FallbackDelay: never},
			}
			first := dial(t, d, full.addr())
			c := dial(t, d, name)
			require.Equal(t, free.addr(), c.RemoteAddr().String())
			require.Zero(t, waits.Load())

			var waiting sync.WaitGroup
			waiting.Go(func() { // now no address has a tuple
				c, err := d.Dial("tcp", name)
				require.NoError(t, err)
				require.NoError(t, c.(*dialer.TCPConn).Abort())
			})
			require.Eventually(t, func() bool { return waits.Load() > 0 }, soon, time.Millisecond)
			require.NoError(t, first.Abort())
			waiting.Wait()
			require.NoError(t, c.Abort())
			require.Equal(t, tuple.Stats{}, p.Stats())
		})
	}
}

// questions are the record types that a resolver was asked for: 1 is A, 28 is AAAA.
type questions struct {
	mu    sync.Mutex
	asked map[uint16]int
}

// asking is a connection to a name server. It counts the questions that are written to it, each with its length before
// it.
type asking struct {
	net.Conn
	q *questions
}

func (a asking) Write(b []byte) (int, error) {
	const header = 2 + 12
	end := header
	for b[end] != 0 {
		end += 1 + int(b[end])
	}
	a.q.mu.Lock()
	a.q.asked[binary.BigEndian.Uint16(b[end+1:])]++
	a.q.mu.Unlock()
	return a.Conn.Write(b)
}

// resolver returns a resolver of h that counts its questions.
func (q *questions) resolver(h hosts) *net.Resolver {
	r := h.resolver()
	dial := r.Dial
	r.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		return asking{c, q}, err
	}
	return r
}

// A network of one family asks only for the records of that family, as net.Dialer does, because a name server may need
// seconds to answer that it has no others.
func TestNetworkOfOneFamilyAsksForItsRecordsAlone(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	listen(t, "tcp", "127.0.0.1:9000")
	listen(t, "tcp", "[::1]:9000")
	names := hosts{"both.test": {"127.0.0.1", "::1"}}
	for network, want := range map[string]map[uint16]int{
		"tcp4": {1: 1}, "udp4": {1: 1}, "tcp6": {28: 1}, "udp6": {28: 1}, "tcp": {1: 1, 28: 1}, "udp": {1: 1, 28: 1},
	} {
		q := &questions{asked: map[uint16]int{}}
		nd := &net.Dialer{Resolver: q.resolver(names)}
		for _, dial := range []dialFunc{nd.DialContext, (&dialer.Dialer{NetDialer: nd}).DialContext} {
			clear(q.asked)
			c, err := dial(t.Context(), network, "both.test:9000")
			require.NoError(t, err)
			require.NoError(t, c.Close())
			require.Equal(t, want, q.asked, network)
		}
	}
}
