package dialer_test

import (
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http/httptest"
	"net/netip"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

// A tls.Dialer takes a *net.Dialer. A Tracker makes one, and knows when its connections are gone.
func ExampleTracker_NetDialer() {
	server := httptest.NewTLSServer(nil)
	defer server.Close()

	d := &dialer.Dialer{TCP: &tuple.Pool{
		Sources: []netip.Prefix{netip.MustParsePrefix("127.0.0.5/32")},
	}}
	var tracker dialer.Tracker
	defer tracker.Close()
	nd, err := tracker.NetDialer(d) // a *net.Dialer, for tls.Dialer, miekg/dns, x/net/websocket
	if err != nil {
		log.Fatal(err)
	}
	secure := tls.Dialer{NetDialer: nd, Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := secure.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(conn.LocalAddr().(*net.TCPAddr).IP, d.TCP.Stats().InUse)
	// Output: 127.0.0.5 1
}

// With a Tracker, a Dialer returns the type that some libraries look for.
func ExampleTracker_raw() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()

	var tracker dialer.Tracker
	defer tracker.Close()
	d := dialer.Dialer{Tracker: &tracker}
	conn, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Printf("%T\n", conn)
	// Output: *net.TCPConn
}
