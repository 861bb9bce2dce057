package dialer_test

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// A dial to a port of its own pool without a listener never connects the socket to itself. It skips that port.
func TestNoConnectionToItself(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	for _, ip := range []string{"127.0.0.1", "[::1]"} {
		for _, sources := range [][]string{nil, {"127.0.0.1/32", "::1/128"}} {
			for _, first := range []int{40000, 20000} {
				t.Run(fmt.Sprint(ip, sources, first), func(t *testing.T) {
					to := fmt.Sprintf("%s:%d", ip, first)
					alone := pool(fmt.Sprint(first), sources...)
					_, err := (&dialer.Dialer{TCP: alone}).Dial("tcp", to)
					require.ErrorIs(t, err, tuple.ErrExhausted)
					require.Zero(t, alone.Stats().InUse)

					for range 10 { // the order of the two ports is random
						two := pool(fmt.Sprintf("%d-%d", first, first+1), sources...)
						_, err = (&dialer.Dialer{TCP: two}).Dial("tcp", to)
						require.ErrorIs(t, err, syscall.ECONNREFUSED, "the other port was tried")
						require.Zero(t, two.Stats().InUse)
					}
				})
			}
		}
	}
}
