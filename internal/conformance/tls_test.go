package conformance

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

// crypto/tls with Dialer.NetDialer, which is a *net.Dialer.
func TestTLSWithNetDialer(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	at, roots := serveHTTP(t, true, func(http.ResponseWriter, *http.Request) {})
	d, tracker := newDialer(), newTracker(t)
	nd, err := tracker.NetDialer(d)
	require.NoError(t, err)
	config := &tls.Config{RootCAs: roots}
	td := &tls.Dialer{NetDialer: nd, Config: config}
	var conns opened[net.Conn]
	forEach(at, func(server netip.AddrPort, _ int) error {
		c, err := td.DialContext(t.Context(), "tcp", server.String())
		if err != nil {
			return err
		}
		conns.add(c)
		if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %v\r\n\r\n", server); err != nil {
			return err
		}
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		return response.Body.Close()
	}).wait(t)
	requireShared(t, sockdiag.TCP, at)
	for _, c := range conns.all {
		require.IsType(t, (*net.TCPConn)(nil), c.(*tls.Conn).NetConn())
	}
	conns.close(t)
	requireNothingHeld(t, d)
}
