package conformance

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	xwebsocket "golang.org/x/net/websocket"

	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

// serveEcho starts three servers that send each message back. wait returns when the clients have closed all
// connections.
func serveEcho(t *testing.T) (at []netip.AddrPort, wait func()) {
	t.Helper()
	var handlers sync.WaitGroup
	at, _ = serveHTTP(t, false, func(w http.ResponseWriter, r *http.Request) {
		handlers.Add(1) // because the server does not wait for a hijacked connection
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
	return at, handlers.Wait
}

// gorilla/websocket with Dialer.NetDialContext.
func TestWebSocket(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	at, wait := serveEcho(t)
	d := newDialer()
	wd := &websocket.Dialer{NetDialContext: d.DialContext}
	var conns opened[*websocket.Conn]
	forEach(at, func(server netip.AddrPort, i int) error {
		c, _, err := wd.DialContext(t.Context(), "ws://"+server.String(), nil)
		if err != nil {
			return err
		}
		conns.add(c)
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
	conns.close(t)
	requireNothingHeld(t, d)
	wait()
}

// golang.org/x/net/websocket with Config.Dialer, which is a *net.Dialer.
func TestWebSocketWithNetDialer(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	at, wait := serveEcho(t)
	d, tracker := newDialer(), newTracker(t)
	nd, err := tracker.NetDialer(d)
	require.NoError(t, err)
	var conns opened[*xwebsocket.Conn]
	forEach(at, func(server netip.AddrPort, i int) error {
		config, err := xwebsocket.NewConfig("ws://"+server.String(), "http://"+server.String())
		if err != nil {
			return err
		}
		config.Dialer = nd
		c, err := config.DialContext(t.Context())
		if err != nil {
			return err
		}
		conns.add(c)
		sent, got := fmt.Sprint(server, i), ""
		if err := xwebsocket.Message.Send(c, sent); err != nil {
			return err
		}
		err = xwebsocket.Message.Receive(c, &got)
		if err == nil && got != sent {
			err = fmt.Errorf("sent %q and got %q", sent, got)
		}
		return err
	}).wait(t)
	requireShared(t, sockdiag.TCP, at)
	conns.close(t)
	requireNothingHeld(t, d)
	wait()
}
