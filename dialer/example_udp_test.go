package dialer_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/netip"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

// Connected UDP sockets share a local port among destinations. Each hears only its own.
func ExampleDialer_DialUDP() {
	one, two := peerThatSays("one"), peerThatSays("two")

	d := &dialer.Dialer{UDP: &tuple.Pool{Ports: alloc.RangeSet(20002, 20002)}} // one port serves both
	for _, to := range []netip.AddrPort{one, two} {
		c, err := d.DialUDP(context.Background(), "udp", netip.AddrPort{}, to)
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		b := make([]byte, 100)
		c.Write([]byte("who are you?"))
		n, err := c.Read(b)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(c.LocalAddr().(*net.UDPAddr).Port, string(b[:n]))
	}
	// Output:
	// 20002 one
	// 20002 two
}

// peerThatSays answers one datagram.
func peerThatSays(word string) netip.AddrPort {
	l, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		defer l.Close()
		_, from, err := l.ReadFromUDPAddrPort(make([]byte, 100))
		if err != nil {
			log.Fatal(err)
		}
		l.WriteToUDPAddrPort([]byte(word), from)
	}()
	return l.LocalAddr().(*net.UDPAddr).AddrPort()
}
