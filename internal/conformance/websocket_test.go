package conformance

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

// gorilla/websocket, by Dialer.NetDialContext.
func TestWebSocket(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	var handlers sync.WaitGroup
	at, _ := serveHTTP(t, false, func(w http.ResponseWriter, r *http.Request) {
		handlers.Add(1) // a hijacked connection is no longer the server's to wait for
		defer handlers.Done()
		var up websocket.Upgrader
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			kind, message, err := c.ReadMessage()
			if err != nil || c.WriteMessage(kind, message) != nil {
				return
			}
		}
	})
	d := newDialer()
	wd := &websocket.Dialer{NetDialContext: d.DialContext}
	var mu sync.Mutex
	var conns []*websocket.Conn
	forEach(at, func(server netip.AddrPort, i int) error {
		c, _, err := wd.DialContext(t.Context(), "ws://"+server.String(), nil)
		if err != nil {
			return err
		}
		mu.Lock()
		conns = append(conns, c)
		mu.Unlock()
		sent := fmt.Sprint(server, i)
		if err := c.WriteMessage(websocket.TextMessage, []byte(sent)); err != nil {
			return err
		}
		_, got, err := c.ReadMessage()
		if err == nil && string(got) != sent {
			err = fmt.Errorf("sent %q and got %q", sent, got)
		}
		return err
	}).wait(t)
	requireShared(t, sockdiag.TCP, at)
	for _, c := range conns {
		require.NoError(t, c.Close())
	}
	requireNothingHeld(t, d)
	handlers.Wait()
}
