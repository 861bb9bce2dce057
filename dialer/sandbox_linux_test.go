package dialer_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/seccomp"
	"github.com/ephemera-go/ephemera/tuple"
)

// portRange matches IP_LOCAL_PORT_RANGE among the options of IP.
var portRange = []seccomp.Where{
	{Arg: 1, Values: []uint32{unix.IPPROTO_IP}},
	{Arg: 2, Values: []uint32{unix.IP_LOCAL_PORT_RANGE}},
}

// If a sandbox accepts IP_LOCAL_PORT_RANGE and ignores it, each dial makes one connection, and at most one dial makes
// two. The option may be unreadable, read as never set, or read as it was set.
func TestSandboxThatIgnoresThePortRange(t *testing.T) {
	for name, pretend := range map[string]func(t *testing.T){
		"cannot be read back": func(t *testing.T) {
			seccomp.Answer(t, unix.SYS_GETSOCKOPT, unix.ENOPROTOOPT, portRange...)
		},
		"reads as unset": func(*testing.T) {},
		"reads as asked": func(*testing.T) { dialer.ForceNewKernel() },
	} {
		for kind, p := range kindsOfPools() {
			t.Run(name+"/"+kind, func(t *testing.T) {
				if !netns.Isolate(t, "net.ipv4.ip_local_port_range=32768 60999") {
					return
				}
				to := listen(t, "tcp", "127.0.0.1:9000")
				last := closedPort(t, "127.0.0.2")
				seccomp.Answer(t, unix.SYS_SETSOCKOPT, 0, portRange...)
				pretend(t)
				d := &dialer.Dialer{TCP: p}
				requireOneConnectionADial(t, d, to, last)
				c := dial(t, d, to.addr())
				require.Equal(t, local(c).Port(), c.Tuple().Src().Port(), "the account has what the kernel chose")
			})
		}
	}
}

// If getsockname(2) fails, a dial makes at most two connections, and works.
func TestSandboxWithoutGetsockname(t *testing.T) {
	for kind, p := range kindsOfPools() {
		t.Run(kind, func(t *testing.T) {
			if !netns.Isolate(t, "net.ipv4.ip_local_port_range=32768 60999") {
				return
			}
			to, udp := listen(t, "tcp", "127.0.0.1:9000"), echoUDP(t, "127.0.0.1:9000")
			last := closedPort(t, "127.0.0.2")
			seccomp.Answer(t, unix.SYS_GETSOCKNAME, unix.EPERM)
			d := &dialer.Dialer{TCP: p, UDP: p, NetDialer: &net.Dialer{Timeout: soon}}
			const dials = 10
			for range dials {
				c, err := d.Dial("tcp", to.addr())
				require.NoError(t, err)
				require.NoError(t, c.Close())
				c, err = d.Dial("udp", udp.String())
				require.NoError(t, err)
				require.NoError(t, c.Close())
			}
			require.LessOrEqual(t, to.reached(t, last), 2*dials)
			if p != nil {
				require.Zero(t, p.Stats().InUse)
			}
		})
	}
}

// If the kernel answers every connect as if the tuple was in use, a dial ends after a few tries. The tuples stay free
// for other dials.
func TestKernelThatRefusesEveryTuple(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	for _, ports := range []string{"40000-40999", "20000-20999", ""} {
		for _, sources := range [][]string{nil, {"127.0.0.1/32"}} {
			p := new(tuple.Pool)
			if ports != "" {
				p = pool(ports)
			}
			for _, s := range sources {
				p.Sources = append(p.Sources, netip.MustParsePrefix(s))
			}
			d := &dialer.Dialer{TCP: p, Wait: time.Second}
			var all sync.WaitGroup
			all.Go(func() {
				runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
				seccomp.AnswerThread(t, unix.SYS_CONNECT, unix.EADDRNOTAVAIL)
				for range 5 {
					_, err := d.Dial("tcp", to.addr())
					require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
					require.NotErrorIs(t, err, tuple.ErrExhausted, "the tuples are not what is missing")
				}
			})
			all.Wait()
			require.Zero(t, p.Stats().InUse)
			require.LessOrEqual(t, p.Usage(to.addrPort()).Taken, 20, "%q %v", ports, sources)
			require.NoError(t, dial(t, d, to.addr()).Abort())
		}
	}
}

// onlyInternetSockets refuses the sockets that a systemd service with RestrictAddressFamilies=AF_INET AF_INET6 may not
// open.
func onlyInternetSockets(t *testing.T) {
	seccomp.Answer(t, unix.SYS_SOCKET, unix.EAFNOSUPPORT,
		seccomp.Where{Arg: 0, Values: []uint32{unix.AF_NETLINK, unix.AF_UNIX}})
}

// Without netlink and Unix sockets dials work. No tuple cools down if its connection left nothing in the kernel.
func TestSandboxWithInternetSocketsAlone(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	to, silent := listen(t, "tcp", "127.0.0.1:9000"), blackhole(t, "127.0.0.1:9001")
	udp := echoUDP(t, "127.0.0.1:9000")
	onlyInternetSockets(t)
	for _, ports := range []string{"40000-40019", "20000-20019"} {
		p := pool(ports, "127.0.0.1/32")
		d := &dialer.Dialer{TCP: p, UDP: pool(ports, "127.0.0.1/32")}
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			_, err := d.DialContext(ctx, "tcp", silent)
			isTimeout(t, err)
			cancel()
			c := dial(t, d, to.addr())
			a := to.accept(t, c)
			require.NoError(t, a.SetLinger(0))
			require.NoError(t, a.Close())
			awaitReset(t, c)
			require.NoError(t, c.Close())
		}
		require.Equal(t, tuple.Stats{}, p.Stats())
		require.NoError(t, ask(dialUDP(t, d, udp.String()), udp))
	}
	require.NoError(t, ask(dialUDP(t, new(dialer.Dialer), udp.String()), udp))
	c, err := new(dialer.Dialer).ListenPacket(t.Context(), "udp4", ":0")
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

// Without netlink, the functions that need it return an error that names it.
func TestSandboxWithoutNetlinkNamesIt(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	onlyInternetSockets(t)
	_, err := new(dialer.Tracker).NetDialer(new(dialer.Dialer))
	require.ErrorIs(t, err, syscall.EAFNOSUPPORT)
	_, err = dialer.Adopt("tcp", new(tuple.Pool))
	require.ErrorIs(t, err, syscall.EAFNOSUPPORT)
	_, err = dialer.Audit("tcp", new(tuple.Pool))
	require.ErrorIs(t, err, syscall.EAFNOSUPPORT)
	_, err = dialer.ListeningPorts("tcp")
	require.ErrorIs(t, err, syscall.EAFNOSUPPORT)
}

// After an active close a tuple cools down as long as in the kernel, even if the kernel cannot be asked. In the bind
// lane that is all of TIME_WAIT, because nothing else guards it there.
func TestTimeWaitIsGuardedWithoutNetlink(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999", "net.ipv4.tcp_tw_reuse=0") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	onlyInternetSockets(t)
	p := pool("20000")
	d := &dialer.Dialer{TCP: p}
	c := dial(t, d, to.addr())
	a := to.accept(t, c)
	require.NoError(t, c.Close())
	_, err := io.Copy(io.Discard, a)
	require.NoError(t, err)
	require.NoError(t, a.Close())
	require.Equal(t, 1, p.Stats().Retired)
	_, err = d.Dial("tcp", to.addr())
	require.ErrorIs(t, err, tuple.ErrExhausted)
}

// If bind(2) is forbidden (systemd's SocketBindDeny=any), Dialers that do not name their ports work like net.Dialer.
func TestSandboxWithoutBind(t *testing.T) {
	for name, p := range map[string]*tuple.Pool{"of the host": nil, "1024-65535": new(tuple.Pool)} {
		t.Run(name, func(t *testing.T) {
			if !netns.Isolate(t) {
				return
			}
			to, udp := listen(t, "tcp", "127.0.0.1:9000"), echoUDP(t, "127.0.0.1:9000")
			seccomp.Answer(t, unix.SYS_BIND, unix.EPERM)
			d := &dialer.Dialer{TCP: p, UDP: p}
			for range 50 {
				dial(t, d, to.addr())
				require.NoError(t, ask(dialUDP(t, d, udp.String()), udp))
			}
		})
	}
}

// If bind(2) is forbidden, a dial from ports that the user named ends, with the kernel's reason.
func TestNamedPortsWithoutBind(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	seccomp.Answer(t, unix.SYS_BIND, unix.EPERM)
	for _, network := range []string{"tcp", "udp"} {
		p := pool("2000-29999", "127.0.0.1/32")
		_, err := (&dialer.Dialer{TCP: p, UDP: p, NetDialer: new(net.Dialer)}).Dial(network, "127.0.0.1:9000")
		require.ErrorIs(t, err, syscall.EPERM)
		require.NotErrorIs(t, err, tuple.ErrExhausted)
		require.Zero(t, p.Stats().InUse)
		require.Greater(t, p.Usage(netip.MustParseAddrPort("127.0.0.1:9000")).Free, 20_000, "the others were not tried")
	}
}
