package dialer_test

import (
	"fmt"
	"log"
	"net"
	"net/netip"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

// A program sees how many connections its zero Dialers have towards an address.
func ExampleHostPool() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()

	var d dialer.Dialer
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	p, err := dialer.HostPool("tcp")
	if err != nil {
		log.Print(err) // the ports of the host cannot be read: the kernel chooses
	}
	fmt.Println(p.Usage(netip.MustParseAddrPort(l.Addr().String())).InUse)
	// Output: 1
}

// The tuple of a connection names it in the pool: log it, and ask the pool about it.
func ExampleTCPConn_Tuple() {
	l, err := net.Listen("tcp", "127.0.0.1:20443")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()

	p := &tuple.Pool{
		Sources: []netip.Prefix{netip.MustParsePrefix("127.0.0.5/32")},
		Ports:   alloc.RangeSet(20003, 20003),
	}
	c, err := (&dialer.Dialer{TCP: p}).Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	t := c.(*dialer.TCPConn).Tuple()
	fmt.Println(t, p.Contains(t))
	c.(*dialer.TCPConn).Abort()
	fmt.Println(p.Contains(t))
	// Output:
	// 127.0.0.5:20003->127.0.0.1:20443 true
	// false
}

// Four processes divide the UDP ports. A dial then need not ask the kernel whether another process has its tuple.
func ExampleDialer_sharedUDP() {
	all := alloc.RangeSet(20000, 59999)
	process := 2 // 0 to 3, from the configuration
	d := &dialer.Dialer{UDP: &tuple.Pool{Ports: all.Slice(process, 4)}, SharedUDP: true}
	fmt.Println(d.UDP.Ports)
	// Output: 40000-49999
}
