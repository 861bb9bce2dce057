package dialer_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"syscall"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

// Each connection of an http.Client has its own tuple.
func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello")
	}))
	defer server.Close()

	url := server.URL

	d := &dialer.Dialer{TCP: &tuple.Pool{
		Sources: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
	}}
	client := &http.Client{Transport: &http.Transport{DialContext: d.DialContext, ForceAttemptHTTP2: true}}
	response, err := client.Get(url)
	if err != nil {
		log.Fatal(err)
	}
	defer client.CloseIdleConnections()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	fmt.Println(string(body), err)
	// Output: hello <nil>
}

// The connections of a Dialer with Sources leave from each of them in turn, and share their ports among all
// destinations.
func ExampleDialer_sources() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()

	d := &dialer.Dialer{TCP: &tuple.Pool{
		Sources: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32"), netip.MustParsePrefix("127.0.0.3/32")},
		Ports:   alloc.MustParseSet("20000-29999"),
	}}
	from := map[string]int{}
	for range 4 {
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		from[c.LocalAddr().(*net.TCPAddr).IP.String()]++
	}
	fmt.Println(from, d.TCP.Stats().InUse)
	// Output: map[127.0.0.2:2 127.0.0.3:2] 4
}

// When every tuple towards an address is in use, errors.Is finds tuple.ErrExhausted, and also the errno of a plain
// dial.
func ExampleDialer_exhausted() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()

	d := &dialer.Dialer{TCP: &tuple.Pool{Ports: alloc.RangeSet(20000, 20001)}} // two connections to each destination
	for {
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			fmt.Println(errors.Is(err, tuple.ErrExhausted), errors.Is(err, syscall.EADDRNOTAVAIL))
			break
		}
		defer c.Close()
	}
	// Output: true true
}

// The pool records what a predecessor left and what others have before the first dial, and frees it when it is gone.
func ExampleAdopt() {
	pool := &tuple.Pool{Ports: alloc.RangeSet(20000, 29999)}
	adopted, err := dialer.Adopt("tcp", pool)
	if err != nil {
		log.Fatal(err)
	}
	d := &dialer.Dialer{TCP: pool}
	go func() {
		for adopted.Reserved() > 0 {
			time.Sleep(time.Minute)
			if err := adopted.Update(); err != nil {
				log.Print(err)
			}
		}
	}()
	_ = d // dial
}

// Audit lists the tuples on which the pool and the kernel disagree.
func ExampleAudit() {
	d := &dialer.Dialer{TCP: &tuple.Pool{Ports: alloc.RangeSet(20000, 29999)}}
	differences, err := dialer.Audit("tcp", d.TCP)
	if err != nil {
		log.Fatal(err)
	}
	for _, difference := range differences {
		fmt.Println(difference)
	}
}

// A proxy passes on the end of one direction and waits for the end of the other, with a time limit.
func ExampleTCPConn() {
	var d dialer.Dialer
	proxy := func(client *net.TCPConn, target string) {
		defer client.Close()
		c, err := d.Dial("tcp", target)
		if err != nil {
			log.Print(err)
			return
		}
		server := c.(*dialer.TCPConn)
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.Copy(client, server) // splices
			client.CloseWrite()
		}()
		io.Copy(server, client)
		server.CloseWrite()
		select {
		case <-done:
			server.Close()
		case <-time.After(time.Minute):
			server.Abort()
			<-done
		}
	}
	_ = proxy
}

// A pool leaves out the ports that have a listener.
func ExampleListeningPorts() {
	listening, err := dialer.ListeningPorts("tcp")
	if err != nil {
		log.Fatal(err)
	}
	d := &dialer.Dialer{TCP: &tuple.Pool{Ports: alloc.RangeSet(1024, 65535).Difference(listening)}}
	_ = d // dial
}
