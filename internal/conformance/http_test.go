package conformance

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

// serveHTTP starts three servers until the test ends. With TLS they speak HTTP/2 too.
func serveHTTP(t *testing.T, withTLS bool, handler http.HandlerFunc) (at []netip.AddrPort, roots *x509.CertPool) {
	t.Helper()
	all, at := listeners(t)
	roots = x509.NewCertPool()
	for _, l := range all {
		s := httptest.NewUnstartedServer(handler)
		s.Listener.Close()
		s.Listener = l
		t.Cleanup(s.Close)
		if withTLS {
			s.EnableHTTP2 = true
			s.StartTLS()
			roots.AddCert(s.Certificate())
		} else {
			s.Start()
		}
	}
	return at, roots
}

// get gets url, and fails if the answer has another protocol.
func get(client *http.Client, url, protocol string) error {
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.Proto != protocol {
		return fmt.Errorf("%s, not %s", response.Proto, protocol)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// net/http with Transport.DialContext. HTTP/1.1 needs a connection for each concurrent request, HTTP/2 one for each
// server and transport. HTTP/2 needs ForceAttemptHTTP2.
func TestHTTP(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			g := newGate(t)
			at, roots := serveHTTP(t, version == "HTTP/2.0", func(http.ResponseWriter, *http.Request) { g.pass() })
			t.Cleanup(g.open) // before the servers close, because they wait for their handlers
			d := newDialer()
			var clients [each]*http.Client
			for i := range clients {
				transport := &http.Transport{DialContext: d.DialContext, ForceAttemptHTTP2: true}
				transport.TLSClientConfig = &tls.Config{RootCAs: roots}
				clients[i] = &http.Client{Transport: transport}
			}
			c := forEach(at, func(server netip.AddrPort, i int) error {
				if version == "HTTP/1.1" {
					return get(clients[0], "http://"+server.String(), version)
				}
				return get(clients[i], "https://"+server.String(), version)
			})
			g.await(t, c)
			requireShared(t, sockdiag.TCP, at)
			g.open()
			c.wait(t)
			requireShared(t, sockdiag.TCP, at) // the connections stay alive
			require.Equal(t, each*servers, d.TCP.Stats().InUse)
			for _, c := range clients {
				c.CloseIdleConnections()
			}
			requireNothingHeld(t, d)
		})
	}
}
