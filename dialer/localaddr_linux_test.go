package dialer_test

import (
	"net"
	"testing"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
)

// Each local address that a caller names has all ports of the host, as in the kernel. A Dialer without a pool does not
// run out because of connections from another address.
func TestEachLocalAddrHasAllPorts(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40009") {
		return
	}
	tcp, udp := listen(t, "tcp", "127.0.0.1:9000").addr(), echoUDP(t, "127.0.0.1:9000").String()
	for _, ip := range []net.IP{net.IPv4(127, 0, 0, 2), net.IPv4(127, 0, 0, 3), nil} {
		for range 10 {
			dial(t, &dialer.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}}, tcp)
			dialUDP(t, &dialer.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: ip}}}, udp)
		}
	}
}
