package conformance

import (
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

// fasthttp with Client.Dial and with Client.DialTimeout. DialTimeout gets a timeout of 0, which means none, for a
// request without a timeout.
func TestFasthttp(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	before := goleak.IgnoreCurrent()
	for name, client := range map[string]func(d *dialer.Dialer) *fasthttp.Client{
		"Dial": func(d *dialer.Dialer) *fasthttp.Client {
			return &fasthttp.Client{Dial: func(addr string) (net.Conn, error) { return d.Dial("tcp", addr) }}
		},
		"DialTimeout": func(d *dialer.Dialer) *fasthttp.Client {
			return &fasthttp.Client{DialTimeout: func(addr string, timeout time.Duration) (net.Conn, error) {
				within := *d
				within.NetDialer = &net.Dialer{Timeout: timeout}
				return within.Dial("tcp", addr)
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t)
			at, _ := serveHTTP(t, false, func(http.ResponseWriter, *http.Request) { g.pass() })
			t.Cleanup(g.open)
			d := newDialer()
			fc := client(d)
			fc.MaxIdleConnDuration = time.Millisecond // its goroutines end after that too
			c := forEach(at, func(server netip.AddrPort, i int) error {
				request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
				defer fasthttp.ReleaseRequest(request)
				defer fasthttp.ReleaseResponse(response)
				request.SetRequestURI("http://" + server.String())
				if i == 0 {
					return fc.Do(request, response)
				}
				return fc.DoTimeout(request, response, soon)
			})
			g.await(t, c)
			requireShared(t, sockdiag.TCP, at)
			g.open()
			c.wait(t)
			fc.CloseIdleConnections()
			requireNothingHeld(t, d)
		})
	}
	require.Eventually(t, func() bool { return goleak.Find(before) == nil }, soon, time.Millisecond,
		"each client has a goroutine that checks once a second whether it can end")
}
