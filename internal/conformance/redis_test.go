package conformance

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

// go-redis with Options.Dialer. It looks for a syscall.Conn in a connection, to check whether it is still alive.
func TestRedis(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	var at []netip.AddrPort
	clients := map[netip.AddrPort]*redis.Client{}
	d := newDialer()
	for range servers {
		s := miniredis.RunT(t)
		server := netip.MustParseAddrPort(s.Addr())
		at = append(at, server)
		addr := s.Addr()
		options := &redis.Options{Addr: addr, Dialer: d.DialContext}
		// In go-redis 9.23 the first connections have a data race on the result of this handshake.
		options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		clients[server] = redis.NewClient(options)
	}
	var mu sync.Mutex
	var conns []*redis.Conn
	forEach(at, func(server netip.AddrPort, _ int) error {
		c := clients[server].Conn() // a connection that nothing else uses
		mu.Lock()
		conns = append(conns, c)
		mu.Unlock()
		return c.Incr(t.Context(), "key").Err()
	}).wait(t)
	requireShared(t, sockdiag.TCP, at)
	for _, c := range conns {
		require.NoError(t, c.Close())
	}
	for server, c := range clients { // on an idle connection, which go-redis checks first
		n, err := c.Get(t.Context(), "key").Int()
		require.NoError(t, err)
		require.Equal(t, each, n, server)
	}
	requireShared(t, sockdiag.TCP, at)
	for _, c := range clients {
		require.NoError(t, c.Close())
	}
	requireNothingHeld(t, d)
}
