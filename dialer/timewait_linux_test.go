package dialer_test

import (
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
)

// hangUp accepts connections until the test ends, and closes each when its peer has closed it. For a far host, l must
// be opened in Host.Do.
func hangUp(t *testing.T, l net.Listener) {
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				c.Read(make([]byte, 1))
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
}

// closingFirst dials and closes first, more often than there are ports. It uses each port again after more than a
// second, and returns how many dials failed.
func closingFirst(
	t *testing.T, dial func(network, address string) (net.Conn, error), to string, ports int,
) (failed int) {
	t.Helper()
	for range 3 {
		for range ports * 3 / 4 {
			c, err := dial("tcp", to)
			if err != nil {
				failed++
				continue
			}
			require.NoError(t, c.Close())
		}
		time.Sleep(1200 * time.Millisecond) // of the second after which the kernel uses a tuple again
	}
	return failed
}

// If the kernel uses a tuple again a second after TIME_WAIT began (tcp_tw_reuse), a dial does too, in both lanes: as
// many dials work as with net.Dialer. If the kernel does not, no dial does.
func TestTimeWaitIsReusedAsTheKernelDoes(t *testing.T) {
	for _, c := range []struct {
		reuse int
		far   bool
		works bool
	}{{2, false, true}, {1, true, true}, {1, false, true}, {2, true, false}, {0, false, false}} {
		t.Run(fmt.Sprintf("tcp_tw_reuse=%d/far=%t", c.reuse, c.far), func(t *testing.T) {
			if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40099",
				fmt.Sprint("net.ipv4.tcp_tw_reuse=", c.reuse)) {
				return
			}
			var l net.Listener
			var err error
			if c.far {
				pair := netns.NewVeth(t)
				pair.Far.Do(func() { l, err = net.Listen("tcp", net.JoinHostPort(pair.Far.Addr.String(), "9000")) })
			} else {
				l, err = net.Listen("tcp", "127.0.0.1:9000")
			}
			require.NoError(t, err)
			hangUp(t, l)
			var all sync.WaitGroup
			for name, dial := range map[string]func(network, address string) (net.Conn, error){
				"zero Dialer": new(dialer.Dialer).Dial,
				"bind lane":   (&dialer.Dialer{TCP: pool("20000-20099")}).Dial,
			} {
				all.Go(func() {
					failed := closingFirst(t, dial, l.Addr().String(), 100)
					if c.works {
						require.Zero(t, failed, name)
					} else {
						require.Positive(t, failed, name)
					}
				})
			}
			all.Wait()
		})
	}
}

// noTimeWait are the ways in which a TIME_WAIT that the pool expects does not come: the host keeps none, or the peer
// resets what we have closed.
var noTimeWait = map[string]func(t *testing.T, a *net.TCPConn){
	"tcp_max_tw_buckets": func(t *testing.T, a *net.TCPConn) {
		awaitFIN(t, a)
		require.NoError(t, a.Close())
	},
	"reset by the peer": func(t *testing.T, a *net.TCPConn) {
		awaitFIN(t, a)
		require.NoError(t, a.SetLinger(0))
		require.NoError(t, a.Close())
	},
}

// A tuple that cools down for a TIME_WAIT that never came is used at once by a dial that finds nothing else free.
func TestTimeWaitThatNeverCameHoldsNobodyUp(t *testing.T) {
	for how, end := range noTimeWait {
		for _, wait := range []time.Duration{0, soon} {
			t.Run(fmt.Sprintf("%s/wait=%v", how, wait), func(t *testing.T) {
				if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999", "net.ipv4.tcp_tw_reuse=0") {
					return
				}
				if how == "tcp_max_tw_buckets" {
					quietSysctl(t, "net.ipv4.tcp_max_tw_buckets", "0")
				}
				to := listen(t, "tcp", "127.0.0.1:9000")
				for _, ports := range []string{"40000-40003", "20000-20003"} {
					p := pool(ports)
					d := &dialer.Dialer{TCP: p, Wait: wait}
					for range 4 {
						c := dial(t, d, to.addr())
						a := to.accept(t, c)
						require.NoError(t, c.Close())
						end(t, a)
					}
					require.Equal(t, 4, p.Stats().Retired)
					var dialing sync.WaitGroup
					for range 4 {
						dialing.Go(func() {
							c, err := d.Dial("tcp", to.addr())
							require.NoError(t, err)
							t.Cleanup(func() { c.(*dialer.TCPConn).Abort() })
						})
					}
					dialing.Wait()
					require.Equal(t, 4, p.Stats().InUse)
				}
			})
		}
	}
}

// A waiting dial gets a tuple as soon as the kernel lets go of it, even if the pool does not expect that yet.
func TestWaiterGetsTheTupleWhenTheKernelLetsGo(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999", "net.ipv4.tcp_tw_reuse=0") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	for _, ports := range []string{"40000-40003", "20000-20003"} {
		p := pool(ports)
		d := &dialer.Dialer{TCP: p, Wait: soon}
		var accepted []*net.TCPConn
		for range 4 {
			c := dial(t, d, to.addr())
			accepted = append(accepted, to.accept(t, c))
			require.NoError(t, c.Close())
		}
		var waiting sync.WaitGroup
		for range 4 {
			waiting.Go(func() {
				c, err := d.Dial("tcp", to.addr())
				require.NoError(t, err)
				t.Cleanup(func() { c.(*dialer.TCPConn).Abort() })
			})
		}
		require.Eventually(t, func() bool { return p.Stats().Waiting == 4 }, soon, time.Millisecond)
		for _, a := range accepted {
			noTimeWait["reset by the peer"](t, a)
		}
		waiting.Wait()
		require.Equal(t, 4, p.Stats().InUse)
	}
}

// A waiting dial follows tcp_tw_reuse, which an administrator may set when ports run out.
func TestWaiterFollowsTimeWaitReuse(t *testing.T) {
	for _, ports := range []string{"40000-40003", "20000-20003"} {
		t.Run(ports, func(t *testing.T) {
			if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999", "net.ipv4.tcp_tw_reuse=0") {
				return
			}
			l := listenAndHangUp(t, "tcp", "127.0.0.1:9000")
			p := pool(ports)
			d := &dialer.Dialer{TCP: p, Wait: soon / 4}
			for range 4 {
				require.NoError(t, dial(t, d, l.Addr().String()).Close())
			}
			require.Equal(t, 4, p.Stats().Retired)
			time.AfterFunc(100*time.Millisecond, func() {
				os.WriteFile("/proc/sys/net/ipv4/tcp_tw_reuse", []byte("1"), 0)
			})
			for range 4 {
				require.NoError(t, dial(t, d, l.Addr().String()).Abort())
			}
		})
	}
}

// A connection that the peer resets leaves nothing in the kernel. The next dial gets its tuple, however far away the
// peer is.
func TestTupleIsFreeAfterThePeersReset(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	wire := netns.NewLink(t, netns.Link{OneWay: 20 * time.Millisecond})
	var to *peer
	wire.Far.Do(func() { to = listen(t, "tcp", net.JoinHostPort(wire.Far.Addr.String(), "9000")) })
	for _, port := range []string{"40000", "20000"} {
		p := pool(port)
		d := &dialer.Dialer{TCP: p}
		for range 3 {
			c := dial(t, d, to.addr())
			a := to.accept(t, c)
			require.NoError(t, a.SetLinger(0))
			require.NoError(t, a.Close())
			awaitReset(t, c)
			require.NoError(t, c.Close())
		}
	}
}

// After a passive close, LAST-ACK lasts for a round trip. No dial meets it, and a waiting dial gets the tuple
// afterwards.
func TestTupleIsFreeARoundTripAfterThePeersClose(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	wire := netns.NewLink(t, netns.Link{OneWay: 20 * time.Millisecond})
	var to *peer
	wire.Far.Do(func() { to = listen(t, "tcp", net.JoinHostPort(wire.Far.Addr.String(), "9000")) })
	for _, port := range []string{"40000", "20000"} {
		p := pool(port)
		var tries atomic.Int32
		d := &dialer.Dialer{TCP: p, Wait: soon, NetDialer: counted(&tries)}
		for range 3 {
			c := dial(t, d, to.addr())
			require.NoError(t, to.accept(t, c).Close())
			awaitFIN(t, c)
			require.NoError(t, c.Close())
			require.Equal(t, 1, p.Stats().Retired)
		}
		require.LessOrEqual(t, tries.Load(), int32(6), "the tuple is tried when it is free")
	}
}
