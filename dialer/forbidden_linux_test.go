package dialer_test

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// withoutPrivilegedPorts runs f on a thread that may not bind the ports below net.ipv4.ip_unprivileged_port_start.
func withoutPrivilegedPorts(t *testing.T, f func()) {
	t.Helper()
	var all sync.WaitGroup
	all.Go(func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var caps [2]unix.CapUserData
		require.NoError(t, unix.Capget(&header, &caps[0]))
		caps[0].Effective &^= 1 << unix.CAP_NET_BIND_SERVICE
		require.NoError(t, unix.Capset(&header, &caps[0]))
		f()
	})
	all.Wait()
}

// A dial skips a port that a policy forbids while others are free, and does not try it again soon. That holds for ports
// that the user named and for the zero Pool.
func TestForbiddenPortIsPassedOver(t *testing.T) {
	for name, pools := range map[string]func() *tuple.Pool{
		"named": func() *tuple.Pool { return pool("1024-3023", "127.0.0.1/32") },
		"zero":  func() *tuple.Pool { return new(tuple.Pool) },
	} {
		t.Run(name, func(t *testing.T) {
			first := map[string]int{"named": 2000, "zero": 50000}[name]
			if !netns.Isolate(t, "net.ipv4.ip_local_port_range=60000 60999",
				fmt.Sprint("net.ipv4.ip_unprivileged_port_start=", first)) {
				return
			}
			to, udp := listen(t, "tcp", "127.0.0.1:50000"), echoUDP(t, "127.0.0.1:50000")
			withoutPrivilegedPorts(t, func() {
				_, err := (&net.Dialer{LocalAddr: &net.TCPAddr{Port: first - 1}}).Dial("tcp", to.addr())
				require.ErrorIs(t, err, syscall.EACCES)
				var tries atomic.Int32
				d := &dialer.Dialer{TCP: pools(), UDP: pools(), NetDialer: counted(&tries)}
				for range 200 {
					dial(t, d, to.addr())
					dialUDP(t, d, udp.String())
				}
				if name == "named" {
					require.LessOrEqual(t, tries.Load(), int32(2*(200+976)), "no forbidden port is tried twice")
				}
			})
		})
	}
}

// If all ports of a pool are forbidden, the error is that of the policy, and does not say that others have the ports.
func TestForbiddenPortsAreTheError(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_unprivileged_port_start=2000") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:50000")
	withoutPrivilegedPorts(t, func() {
		for _, network := range []string{"tcp", "udp"} {
			for range 2 {
				p := pool("1024-1099", "127.0.0.1/32")
				_, err := (&dialer.Dialer{TCP: p, UDP: p}).Dial(network, to.addr())
				require.ErrorIs(t, err, syscall.EACCES)
				require.Zero(t, p.Stats().InUse)
			}
		}
	})
}
