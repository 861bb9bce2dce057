package conformance

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

// gRPC with WithContextDialer: calls with a single answer, and streams.
func TestGRPC(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	d := newDialer()
	testGRPC(t, d, func() {}, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", addr)
	}))
}

// testGRPC runs clients with the given options, which must dial with d. It calls look while they are connected.
func testGRPC(t *testing.T, d *dialer.Dialer, look func(), options ...grpc.DialOption) {
	t.Helper()
	all, at := listeners(t)
	var healths []*health.Server
	for _, l := range all {
		s, h := grpc.NewServer(), health.NewServer()
		grpc_health_v1.RegisterHealthServer(s, h)
		var serving sync.WaitGroup
		serving.Go(func() { s.Serve(l) })
		t.Cleanup(func() { s.Stop(); serving.Wait() })
		healths = append(healths, h)
	}
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	var conns opened[*grpc.ClientConn]
	var mu sync.Mutex
	var streams []grpc_health_v1.Health_WatchClient
	forEach(at, func(server netip.AddrPort, _ int) error {
		c, err := grpc.NewClient(server.String(), options...)
		if err != nil {
			return err
		}
		conns.add(c)
		client := grpc_health_v1.NewHealthClient(c)
		answer, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			return err
		}
		stream, err := client.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			return err
		}
		mu.Lock()
		streams = append(streams, stream)
		mu.Unlock()
		first, err := stream.Recv()
		if err == nil &&
			(answer.Status != grpc_health_v1.HealthCheckResponse_SERVING || first.Status != answer.Status) {
			err = fmt.Errorf("%v and %v", answer, first)
		}
		return err
	}).wait(t)
	requireShared(t, sockdiag.TCP, at)
	look()
	for _, h := range healths { // each stream gets a second answer
		h.Shutdown()
	}
	for _, stream := range streams {
		next, err := stream.Recv()
		require.NoError(t, err)
		require.Equal(t, grpc_health_v1.HealthCheckResponse_NOT_SERVING, next.Status)
	}
	conns.close(t)
	requireNothingHeld(t, d)
}
