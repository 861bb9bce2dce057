package conformance

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

var _ quic.OOBCapablePacketConn = (*dialer.UDPConn)(nil)

// watched counts what quic-go does with its socket.
type watched struct {
	*dialer.UDPConn
	segmented, marked atomic.Int64 // datagrams with UDP_SEGMENT, and with IP_TOS
}

func (w *watched) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, 0, err
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_UDP && m.Header.Type == unix.UDP_SEGMENT:
			if size := int(binary.NativeEndian.Uint16(m.Data)); size < len(b) {
				w.segmented.Add(1)
			}
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_TOS:
			w.marked.Add(1)
		}
	}
	return w.UDPConn.WriteMsgUDP(b, oob, addr)
}

// serveHTTP3 starts three servers until the test ends. They answer how many bytes they have received, and from where.
func serveHTTP3(t *testing.T) (at []netip.AddrPort, trust *tls.Config) {
	t.Helper()
	certified := httptest.NewTLSServer(nil) // has a certificate for 127.0.0.1
	defer certified.Close()
	trust = &tls.Config{RootCAs: certified.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	for range servers {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		s := &http3.Server{
			TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: certified.TLS.Certificates}),
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n, _ := io.Copy(io.Discard, r.Body)
				fmt.Fprint(w, n, " from ", r.RemoteAddr)
			}),
		}
		var serving sync.WaitGroup
		serving.Go(func() { s.Serve(conn) })
		t.Cleanup(func() { s.Close(); conn.Close(); serving.Wait() })
		at = append(at, conn.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	return at, trust
}

// quic-go and its HTTP/3 with a quic.Transport on the socket of ListenPacket. One local port serves every destination.
// quic-go uses its fast path: many datagrams in one system call (UDP_SEGMENT), and congestion marks (IP_TOS).
func TestHTTP3(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	at, trust := serveHTTP3(t)
	d := newDialer()
	ctx := t.Context()
	socket, err := d.ListenPacket(ctx, "udp", ":0")
	require.NoError(t, err)
	port := uint16(socket.LocalAddr().(*net.UDPAddr).Port)
	conn := &watched{UDPConn: socket.(*dialer.UDPConn)}
	qt := &quic.Transport{Conn: conn}
	h3 := &http3.Transport{
		TLSClientConfig: trust,
		Dial: func(ctx context.Context, addr string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			to, err := net.ResolveUDPAddr("udp", addr)
			if err != nil {
				return nil, err
			}
			return qt.DialEarly(ctx, to, tc, qc)
		},
	}
	client := &http.Client{Transport: h3}
	sent := strings.Repeat("datagrams ", 1<<16)
	forEach(at, func(server netip.AddrPort, _ int) error {
		response, err := client.Post("https://"+server.String(), "text/plain", strings.NewReader(sent))
		if err != nil {
			return err
		}
		defer response.Body.Close()
		got, err := io.ReadAll(response.Body)
		if want := fmt.Sprintf("%d from 127.0.0.1:%d", len(sent), port); err == nil &&
			(response.ProtoMajor != 3 || string(got) != want) {
			err = fmt.Errorf("%s: %q, not %q", response.Proto, got, want)
		}
		return err
	}).wait(t)
	require.NotZero(t, conn.segmented.Load(), "a large body goes out with several datagrams at once")
	require.NotZero(t, conn.marked.Load())

	sockets := func() (all []sockdiag.Socket) {
		q := sockdiag.Query{Protocol: sockdiag.UDP, Local: sockdiag.Match{Ports: []sockdiag.PortRange{{First: port}}}}
		for s, err := range q.All() {
			require.NoError(t, err)
			all = append(all, s)
		}
		return all
	}
	all := sockets()
	require.Len(t, all, 1, "one socket has served them all")
	require.Equal(t, sockdiag.Close, all[0].State, "the socket is not connected")
	require.NoError(t, h3.Close())
	require.NoError(t, qt.Close())
	require.NoError(t, conn.Close())
	require.Empty(t, sockets())
	requireNothingHeld(t, d)
}
