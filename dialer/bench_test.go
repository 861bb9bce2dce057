package dialer_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
)

// BenchmarkDialClose connects over loopback and resets the connection, with net.Dialer and with Dialer in each lane,
// with and without a source address.
func BenchmarkDialClose(b *testing.B) {
	host, err := dialer.HostPorts()
	require.NoError(b, err)
	ranged, bound := host.String(), "1024-32767"
	if dialer.TakesRangeLane(1024) {
		b.Skip("the host's ephemeral ports begin below 32768")
	}
	dialers := []struct {
		name string
		dial func(network, address string) (net.Conn, error)
	}{
		{"dialer=net/source=none", new(net.Dialer).Dial},
		{"dialer=net/source=one", (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}).Dial},
		{"dialer=ephemera/lane=range/source=none", (&dialer.Dialer{TCP: pool(ranged)}).Dial},
		{"dialer=ephemera/lane=range/source=one", (&dialer.Dialer{TCP: pool(ranged, "127.0.0.1/32")}).Dial},
		{"dialer=ephemera/lane=bind/source=none", (&dialer.Dialer{TCP: pool(bound)}).Dial},
		{"dialer=ephemera/lane=bind/source=one", (&dialer.Dialer{TCP: pool(bound, "127.0.0.1/32")}).Dial},
	}
	for _, d := range dialers {
		b.Run(d.name, func(b *testing.B) { dialClose(b, d.dial) })
	}
}

// BenchmarkTracker is BenchmarkDialClose with a Tracker that hears of each end of a connection: of those of net.Dialer,
// which it does not follow, and of its own.
func BenchmarkTracker(b *testing.B) {
	var tracker dialer.Tracker
	b.Cleanup(func() { tracker.Close() })
	nd, err := tracker.NetDialer(&dialer.Dialer{TCP: pool("1024-65535")})
	if errors.Is(err, errors.ErrUnsupported) {
		b.Skip(err)
	}
	require.NoError(b, err)
	b.Run("dialer=net", func(b *testing.B) { dialClose(b, new(net.Dialer).Dial) })
	b.Run("dialer=tracked", func(b *testing.B) { dialClose(b, nd.Dial) })
}

func dialClose(b *testing.B, dial func(network, address string) (net.Conn, error)) {
	address := acceptAndForget(b)
	b.ReportAllocs()
	for b.Loop() {
		c, err := dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		c.(interface{ SetLinger(int) error }).SetLinger(0)
		c.Close()
	}
}

// BenchmarkUDP opens a connected UDP socket and closes it, with net.Dialer and with Dialer.
func BenchmarkUDP(b *testing.B) {
	to, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(b, err)
	b.Cleanup(func() { to.Close() })
	for _, d := range []struct {
		name string
		dial func(network, address string) (net.Conn, error)
	}{
		{"dialer=net", new(net.Dialer).Dial},
		{"dialer=ephemera", (&dialer.Dialer{UDP: pool("1024-65535")}).Dial},
		{"dialer=ephemera/source=one", (&dialer.Dialer{UDP: pool("1024-65535", "127.0.0.1/32")}).Dial},
		{"dialer=ephemera/shared", (&dialer.Dialer{UDP: pool("1024-65535"), SharedUDP: true}).Dial},
	} {
		b.Run(d.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c, err := d.dial("udp", to.LocalAddr().String())
				if err != nil {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
}

// acceptAndForget accepts connections until the benchmark ends.
func acceptAndForget(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { io.Copy(io.Discard, c); c.Close() })
		}
	})
	b.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String()
}
