package dialer_test

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/seccomp"
	"github.com/ephemera-go/ephemera/tuple"
)

// reserve reserves every second port from first on, and returns them. The kernel accepts one page per write.
func reserve(t *testing.T, first, ports int) alloc.Set {
	t.Helper()
	f, err := os.OpenFile("/proc/sys/net/ipv4/ip_local_reserved_ports", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	var all, page []string
	for i := range ports {
		page = append(page, fmt.Sprint(first+2*i))
		if len(page) == 600 || i == ports-1 {
			_, err := f.WriteString(strings.Join(page, ","))
			require.NoError(t, err)
			all, page = append(all, page...), nil
		}
	}
	set, err := alloc.ParseSet(strings.Join(all, ","))
	require.NoError(t, err)
	return set
}

// A list of reserved ports is read to its end, however long it is. The kernel returns a list only to the first read.
func TestLongListOfReservedPortsIsReadWhole(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=1024 65535") {
		return
	}
	for _, ports := range []int{1, 200, 2000, 30_000} {
		reserved := reserve(t, 2001, ports)
		require.Equal(t, ports, reserved.Len())
		got, err := dialer.HostPorts()
		require.NoError(t, err)
		require.True(t, got.Equal(alloc.RangeSet(1024, 65535).Difference(reserved)), "%d ports", ports)
	}
}

// Neither the zero Dialer nor the zero Pool dials from a port of a long list.
func TestNoPortOfALongListIsUsed(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40399") {
		return
	}
	reserved := reserve(t, 2001, 30_000)
	to, udp := listen(t, "tcp", "127.0.0.1:9000"), echoUDP(t, "127.0.0.1:9000")
	for _, d := range implicitDialers() {
		for range 40 {
			require.False(t, reserved.Contains(local(dial(t, d, to.addr())).Port()))
			require.False(t, reserved.Contains(localUDP(dialUDP(t, d, udp.String())).Port()))
		}
	}
}

// implicitDialers returns Dialers whose pools do not name their ports.
func implicitDialers() map[string]*dialer.Dialer {
	return map[string]*dialer.Dialer{"zero Dialer": {}, "zero Pool": {TCP: new(tuple.Pool), UDP: new(tuple.Pool)}}
}

// A Dialer stops using ports that the host reserves, or removes from its range, within a second.
func TestDialerFollowsTheHostsPorts(t *testing.T) {
	for name, d := range implicitDialers() {
		for _, change := range []struct{ sysctl, value, off string }{
			{"net.ipv4.ip_local_reserved_ports", "1024-40049,40100-65000", "1024-40049,40100-65000"},
			{"net.ipv4.ip_local_port_range", "40050 40099", "40000-40049"},
		} {
			if d.TCP != nil && change.sysctl == "net.ipv4.ip_local_port_range" {
				continue // its ports are 1024-65535
			}
			t.Run(name+"/"+change.sysctl, func(t *testing.T) {
				if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40099") {
					return
				}
				to, udp := listen(t, "tcp", "127.0.0.1:9000"), echoUDP(t, "127.0.0.1:9000")
				dial(t, d, to.addr())
				dialUDP(t, d, udp.String())
				quietSysctl(t, change.sysctl, change.value)
				time.Sleep(1100 * time.Millisecond)
				off := alloc.MustParseSet(change.off)
				for range 40 {
					require.False(t, off.Contains(local(dial(t, d, to.addr())).Port()))
					require.False(t, off.Contains(localUDP(dialUDP(t, d, udp.String())).Port()))
				}
			})
		}
	}
}

// If the first dial cannot read the host's ports, a later one reads them.
func TestFaultAtTheFirstDialIsNotRemembered(t *testing.T) {
	for name, fault := range map[string]func(t *testing.T, dial func() error){
		"no descriptor is left": func(t *testing.T, dial func() error) {
			var limit unix.Rlimit
			require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
			// Open descriptors stay open.
			require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: limit.Max}))
			err := dial()
			require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
			require.ErrorIs(t, err, syscall.EMFILE)
		},
		"the sysctl may not be read":  refusedFile(unix.EACCES),
		"the sysctl is not there yet": refusedFile(unix.ENOENT),
	} {
		t.Run(name, func(t *testing.T) {
			if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40099") {
				return
			}
			to := listen(t, "tcp", "127.0.0.1:9000")
			d := new(dialer.Dialer)
			fault(t, func() error {
				c, err := d.Dial("tcp", to.addr())
				if err == nil {
					c.(*dialer.TCPConn).Abort()
				}
				return err
			})
			require.Eventually(t, func() bool {
				_, err := dialer.HostPool("tcp")
				return err == nil
			}, soon, time.Millisecond)
			require.Equal(t, dialer.HasRangeLane(), dialer.TakesRangeLane(40000))
			for range 100 {
				port := local(dial(t, d, to.addr())).Port()
				require.True(t, 40000 <= port && port <= 40099, "%d", port)
			}
			_, err := d.Dial("tcp", to.addr())
			require.ErrorIs(t, err, tuple.ErrExhausted)
		})
	}
}

// refusedFile dials while no file can be opened. The dial works, and the kernel chooses the port.
func refusedFile(errno unix.Errno) func(t *testing.T, dial func() error) {
	return func(t *testing.T, dial func() error) {
		var all sync.WaitGroup
		all.Go(func() {
			runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
			seccomp.AnswerThread(t, unix.SYS_OPENAT, errno)
			require.NoError(t, dial())
			_, err := dialer.HostPool("tcp")
			require.ErrorIs(t, err, errno)
		})
		all.Wait()
	}
}

// HostPool is the pool of every Dialer without a pool. It shows what they hold.
func TestHostPoolShowsWhatTheZeroDialerHolds(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40003") {
		return
	}
	to, udp := listen(t, "tcp", "127.0.0.1:9000"), echoUDP(t, "127.0.0.1:9000")
	require.NotNil(t, dial(t, new(dialer.Dialer), to.addr()))
	c := dial(t, &dialer.Dialer{Owner: "me"}, to.addr())
	p, err := dialer.HostPool("tcp")
	require.NoError(t, err)
	require.True(t, p.Contains(c.Tuple()))
	require.Equal(t, 2, p.Usage(to.addrPort()).InUse)
	require.Equal(t, 2, p.Usage(to.addrPort()).Free)
	require.NoError(t, c.Abort())
	require.Equal(t, 1, p.Usage(to.addrPort()).InUse)

	u := dialUDP(t, new(dialer.Dialer), udp.String())
	p, err = dialer.HostPool("udp")
	require.NoError(t, err)
	require.True(t, p.Contains(u.Tuple()))
	require.Equal(t, 1, p.Stats().InUse)

	for _, network := range []string{"", "tcp4", "unix"} {
		_, err := dialer.HostPool(network)
		require.ErrorIs(t, err, net.UnknownNetworkError(network))
	}
}
