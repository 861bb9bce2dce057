package conformance

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/ephemera-go/ephemera/internal/netns"
)

// gRPC with WithContextDialer and a Tracker. With keepalive, it sets TCP_USER_TIMEOUT if the connection is a
// *net.TCPConn.
func TestGRPCWithRaw(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	const patience = 7 * time.Second
	d, tracker := newDialer(), newTracker(t)
	d.Tracker = tracker
	var dialled opened[net.Conn]
	look := func() {
		require.Len(t, dialled.all, each*servers)
		for _, c := range dialled.all {
			require.EqualValues(t, patience.Milliseconds(), option(t, c, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT))
		}
	}
	testGRPC(t, d, look,
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Hour, Timeout: patience}),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return dialled.keep(d.DialContext(ctx, "tcp", addr))
		}))
}
