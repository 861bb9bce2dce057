package dialer_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

func TestListeningPortsAreThoseThatSomebodyListensOn(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	for _, address := range []string{
		"127.0.0.1:20001", "127.0.0.2:20002", "0.0.0.0:20003", "[::]:20004", "[::1]:20005",
	} {
		v4 := ""
		if strings.HasPrefix(address, "0.0.0.0") {
			v4 = "4" // else it is [::]
		}
		to := listen(t, "tcp"+v4, address)
		udp, err := net.ListenPacket("udp"+v4, address)
		require.NoError(t, err)
		t.Cleanup(func() { udp.Close() })
		if to.addrPort().Port() == 20001 {
			dial(t, &dialer.Dialer{TCP: pool("20010")}, address)
			dialUDP(t, &dialer.Dialer{UDP: pool("20010")}, address)
		}
	}
	for _, network := range []string{"tcp", "udp"} {
		for at, want := range map[string]string{
			"127.0.0.1/32": "20001,20003-20004", "127.0.0.0/30": "20001-20004", "10.0.0.0/8": "20003-20004",
			"::1/128": "20004-20005", "2001:db8::/32": "20004", "::ffff:127.0.0.2/128": "20002-20004",
		} {
			got, err := dialer.ListeningPorts(network, netip.MustParsePrefix(at))
			require.NoError(t, err)
			require.Equal(t, want, got.String(), "%s at %s", network, at)
		}
		got, err := dialer.ListeningPorts(network)
		require.NoError(t, err)
		require.Equal(t, "20001-20005", got.String())
	}
}

// The zero Dialer leaves out ports that have a listener, also after it has met one.
func TestZeroDialerLeavesOutPortsOnWhichSomebodyListens(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40005") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	udp := echoUDP(t, "127.0.0.1:9000").String()
	listen(t, "tcp", "127.0.0.9:40001") // on another address, but the kernel refuses the port anyway
	listen(t, "tcp", "[::]:40004")
	echoUDP(t, "127.0.0.1:40003")

	var d dialer.Dialer
	seen := map[string]map[uint16]bool{"tcp": {}, "udp": {}}
	for range 4 {
		seen["tcp"][local(dial(t, &d, to.addr())).Port()] = true
	}
	for range 5 {
		seen["udp"][localUDP(dialUDP(t, &d, udp)).Port()] = true
	}
	require.Equal(t, map[uint16]bool{40000: true, 40002: true, 40003: true, 40005: true}, seen["tcp"])
	require.Equal(t, map[uint16]bool{40000: true, 40001: true, 40002: true, 40004: true, 40005: true}, seen["udp"])
	for network, address := range map[string]string{"tcp": to.addr(), "udp": udp} {
		_, err := d.Dial(network, address)
		require.ErrorIs(t, err, tuple.ErrExhausted)
		if dialer.HasRangeLane() || network == "udp" { // else the kernel chose
			require.ErrorContains(t, err, " in use)", "none was tried in vain")
		}
		requireAgreement(t, network, nil)
	}
}
