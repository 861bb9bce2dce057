package dialer_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

// A TCPConn has the methods that programs look for in a connection.
var _ interface {
	net.Conn
	io.ReaderFrom
	io.WriterTo
	NetConn() net.Conn
	CloseRead() error
	CloseWrite() error
	SetLinger(int) error
	SetNoDelay(bool) error
	SetKeepAliveConfig(net.KeepAliveConfig) error
	MultipathTCP() (bool, error)
} = (*dialer.TCPConn)(nil)

// Under net/http, connections to many hosts are reused. When they are closed, all tuples go back.
func TestHTTPTransport(t *testing.T) {
	requests := 100
	for _, http2 := range []bool{false, true} {
		p := pool("1024-65535")
		d := &dialer.Dialer{TCP: p}
		transport := &http.Transport{DialContext: d.DialContext, ForceAttemptHTTP2: http2, MaxIdleConnsPerHost: 4}
		client := &http.Client{Transport: transport}
		var urls []string
		for range 5 {
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, r.Proto)
			}))
			s.EnableHTTP2 = http2
			s.StartTLS()
			t.Cleanup(s.Close)
			urls = append(urls, s.URL)
			transport.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
			transport.TLSClientConfig.RootCAs = x509.NewCertPool()
			transport.TLSClientConfig.RootCAs.AddCert(s.Certificate())
		}
		var all sync.WaitGroup
		for g := range 4 {
			all.Go(func() {
				for i := range requests {
					r, err := client.Get(urls[(g+i)%len(urls)])
					if err != nil {
						t.Error(err)
						return
					}
					body, _ := io.ReadAll(r.Body)
					r.Body.Close()
					if want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]; string(body) != want {
						t.Errorf("%s, want %s", body, want)
					}
				}
			})
		}
		all.Wait()
		require.Equal(t, len(urls), p.Stats().Destinations)
		transport.CloseIdleConnections()
		require.Eventually(t, func() bool { return p.Stats().InUse == 0 }, soon, time.Millisecond)
	}
}

// The hooks of net/http/httptrace see each attempt, as with net.Dialer.
func TestHTTPTrace(t *testing.T) {
	to := listen(t, "tcp", "127.0.0.1:0")
	refused := closedPort(t, "127.0.0.1")
	trace := func(dial func(context.Context, string, string) (net.Conn, error)) (events []string) {
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
			ConnectStart: func(network, address string) { events = append(events, "start "+network+" "+address) },
			ConnectDone: func(network, address string, err error) {
				events = append(events, "done "+network+" "+address+" "+reflect.TypeOf(&err).Elem().String())
				if err != nil {
					events = append(events, "error")
				}
			},
		})
		for _, address := range []string{to.addr(), refused} {
			if c, err := dial(ctx, "tcp", address); err == nil {
				c.Close()
			}
		}
		return events
	}
	require.Equal(t, trace(new(net.Dialer).DialContext), trace(new(dialer.Dialer).DialContext))
}

// NetConn returns the type that code looks for, and that code can use it.
func TestNetConnIsTheBareTCPConn(t *testing.T) {
	to := listen(t, "tcp", "127.0.0.1:0")
	c := dial(t, &dialer.Dialer{TCP: pool("1024-65535")}, to.addr())
	a := to.accept(t, c)
	unwrapped, ok := net.Conn(c).(interface{ NetConn() net.Conn })
	require.True(t, ok)
	bare, ok := unwrapped.NetConn().(*net.TCPConn)
	require.True(t, ok)
	require.Same(t, c.TCPConn, bare)
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(uintptr) {}))
	if runtime.GOOS != "windows" {
		f, err := c.File()
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	require.NoError(t, a.Close())
}

// Networks other than TCP and UDP are left to net.Dialer.
func TestOtherNetworksPassThrough(t *testing.T) {
	p := pool("1")
	d := &dialer.Dialer{TCP: p, UDP: p}
	if runtime.GOOS == "linux" {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", path)
		require.NoError(t, err)
		defer l.Close()
		c, err := d.Dial("unix", path)
		require.NoError(t, err)
		require.IsType(t, (*net.UnixConn)(nil), c)
		require.NoError(t, c.Close())
	}
	_, err := d.Dial("tcp5", "127.0.0.1:1")
	require.ErrorAs(t, err, new(net.UnknownNetworkError))
	require.Equal(t, tuple.Stats{}, p.Stats())
}

// Every form of address reaches the same peer as with net.Dialer, or fails in the same way.
func TestAddressesMeanWhatTheyMeanToNet(t *testing.T) {
	l4 := listen(t, "tcp4", "127.0.0.1:0")
	_, port4, err := net.SplitHostPort(l4.addr())
	require.NoError(t, err)
	ports := []string{port4}
	if l6, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		require.NoError(t, l6.Close())
		_, port6, err := net.SplitHostPort(listen(t, "tcp6", "[::1]:0").addr())
		require.NoError(t, err)
		ports = append(ports, port6)
	}
	nd := &net.Dialer{Resolver: hosts{
		"four.test": {"127.0.0.1"}, "six.test": {"::1"}, "both.test": {"127.0.0.1", "::1"},
	}.resolver()}
	d := &dialer.Dialer{NetDialer: nd, TCP: pool("1024-65535"), UDP: pool("1024-65535")}
	outcome := func(c net.Conn, err error) string {
		if err == nil {
			defer c.Close()
			return c.RemoteAddr().Network() + " " + c.RemoteAddr().String()
		}
		var op *net.OpError
		var dns *net.DNSError
		var addr *net.AddrError
		require.True(t, errors.As(err, &op))
		text := "error"
		switch {
		case errors.As(err, &dns):
			text += " of DNS: " + dns.Err
		case errors.As(err, &addr):
			text += " of address: " + addr.Err
		default:
			s := op.Err.Error()
			text += " " + s[strings.LastIndex(s, ":")+1:]
		}
		return text
	}
	for _, port := range append(ports, "http") {
		for _, host := range []string{
			"", "0.0.0.0", "[::]", "127.0.0.1", "[::1]", "[::1%lo]", "[::ffff:127.0.0.1]", "[::%lo]",
			"four.test", "six.test", "both.test", "nowhere.test",
			"127.0.0.1.", "[fe80::1%lo]", "[fe80::1%none]", "[0:0:0:0:0:0:0:1]", "1.2.3", "[127.0.0.1]",
		} {
			for _, network := range []string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6"} {
				if port == "http" && network[0] == 'u' {
					continue // there is no such service
				}
				address := host + ":" + port
				want := outcome(nd.Dial(network, address))
				got := outcome(d.Dial(network, address))
				if got != want {
					t.Errorf("%s %q: %s, want %s", network, address, got, want)
				}
			}
		}
	}
	require.Zero(t, d.TCP.Stats().InUse, "whatever was dialled")
	require.Equal(t, tuple.Stats{}, d.UDP.Stats())
}

// The caller's NetDialer is not changed.
func TestNetDialerIsNotModified(t *testing.T) {
	to := listen(t, "tcp", "127.0.0.1:0")
	nd := &net.Dialer{Timeout: soon, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
	before := *nd
	reset(dial(t, &dialer.Dialer{NetDialer: nd, TCP: pool("1024-65535")}, to.addr()))
	require.True(t, reflect.DeepEqual(before, *nd))
}
