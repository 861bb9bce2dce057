package dialer_test

import (
	"context"
	"net"
	"net/http/httptrace"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
)

// The httptrace hooks see the look-up and the connection that the caller asked for. They do not see the resolver's own
// connections to its name server.
func TestTraceSeesWhatItSeesOfNetDialer(t *testing.T) {
	name := hosts{"service.test": {"127.0.0.1"}}
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			server.WriteTo(name.answer(buf[:n]), from)
		}
	}()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
	service := listen(t, "tcp", "127.0.0.1:0")
	_, port, err := net.SplitHostPort(service.addr())
	require.NoError(t, err)

	traced := func(dial func(ctx context.Context, network, address string) (net.Conn, error)) (events []string) {
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			DNSStart:     func(i httptrace.DNSStartInfo) { events = append(events, "look up "+i.Host) },
			ConnectStart: func(network, address string) { events = append(events, "connect "+network+" "+address) },
			ConnectDone: func(network, address string, _ error) {
				events = append(events, "connected "+network+" "+address)
			},
		})
		c, err := dial(ctx, "tcp", net.JoinHostPort("service.test", port))
		require.NoError(t, err)
		require.NoError(t, c.Close())
		return events
	}
	nd := &net.Dialer{Resolver: resolver}
	want := traced(nd.DialContext)
	require.Len(t, want, 3)
	for _, ports := range []string{"", "20000-30000"} { // either lane, and the bind lane
		require.Equal(t, want, traced((&dialer.Dialer{NetDialer: nd, TCP: pool(ports)}).DialContext), "ports=%s", ports)
	}
}
