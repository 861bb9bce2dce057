package dialer_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// services are the addresses that a load balancer replaces by its only backend.
var services = [2]string{"10.96.0.10", "10.96.0.11"}

// balance loads a BPF program that replaces the address of each service by that of the backend when a socket of this
// process connects. A load balancer at the sockets does the same (Cilium without kube-proxy). The test is skipped
// without the privilege.
func balance(t *testing.T, backend netip.Addr) {
	t.Helper()
	program := loadProgram(t, exchange(backend))
	root := cgroup2(t)
	group := fmt.Sprint("ephemera-", os.Getpid())
	if err := unix.Mkdirat(root, group, 0o755); err != nil {
		t.Skipf("no cgroup can be made: %v", err)
	}
	join := func(path string) error {
		fd, err := unix.Openat(root, path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(fd)
			_, err = unix.Write(fd, fmt.Append(nil, os.Getpid()))
		}
		return err
	}
	t.Cleanup(func() {
		join("cgroup.procs")
		require.NoError(t, unix.Unlinkat(root, group, unix.AT_REMOVEDIR))
	})
	target, err := unix.Openat(root, group, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(target)
	attach := struct{ target, program, kind, flags uint32 }{uint32(target), uint32(program), inet4Connect, 0}
	_, err = bpf(progAttach, unsafe.Pointer(&attach), unsafe.Sizeof(attach))
	require.NoError(t, err)
	require.NoError(t, join(group+"/cgroup.procs"))
}

// cgroup2 returns a descriptor of the root of the cgroups, version 2, mounted in a private mount namespace.
func cgroup2(t *testing.T) int {
	t.Helper()
	dir := t.TempDir()
	type result struct {
		fd  int
		err error
	}
	mounted := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread has its own mount namespace
		r := result{fd: -1}
		defer func() { mounted <- r }()
		if r.err = unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); r.err != nil {
			return
		}
		if r.err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); r.err != nil {
			return
		}
		if r.err = unix.Mount("none", dir, "cgroup2", 0, ""); r.err != nil {
			return
		}
		r.fd, r.err = unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}()
	r := <-mounted
	if r.err != nil {
		t.Skipf("cgroups of version 2 cannot be mounted: %v", r.err)
	}
	t.Cleanup(func() { unix.Close(r.fd) })
	return r.fd
}

// These are constants of include/uapi/linux/bpf.h.
const (
	progLoad       = 5  // BPF_PROG_LOAD
	progAttach     = 8  // BPF_PROG_ATTACH
	cgroupSockAddr = 18 // BPF_PROG_TYPE_CGROUP_SOCK_ADDR
	inet4Connect   = 10 // BPF_CGROUP_INET4_CONNECT
)

// instruction is struct bpf_insn.
type instruction struct {
	code      uint8
	registers uint8 // the destination, and 16 times the source
	offset    int16
	value     int32
}

// exchange returns the program. Its context is struct bpf_sock_addr, with the destination address at offset 4.
func exchange(backend netip.Addr) []instruction {
	word := func(a netip.Addr) int32 {
		b := a.As4()
		return int32(binary.NativeEndian.Uint32(b[:]))
	}
	const moveK, moveK32, load, equal, different, store, exit = 0xb7, 0xb4, 0x61, 0x1d, 0x5d, 0x63, 0x95
	return []instruction{
		{moveK, 0, 0, 1},       // r0 = 1: let it connect
		{load, 2 | 1<<4, 4, 0}, // r2 = the address
		{moveK32, 3, 0, word(netip.MustParseAddr(services[0]))},
		{equal, 2 | 3<<4, 2, 0}, // to the exchange
		{moveK32, 3, 0, word(netip.MustParseAddr(services[1]))},
		{different, 2 | 3<<4, 2, 0}, // to the end
		{moveK32, 3, 0, word(backend)},
		{store, 1 | 3<<4, 4, 0},
		{exit, 0, 0, 0},
	}
}

func loadProgram(t *testing.T, program []instruction) int {
	t.Helper()
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the attributes are not written for 32 bits")
	}
	license := []byte("MIT\x00")
	attr := struct {
		kind, count   uint32
		instructions  unsafe.Pointer
		license       unsafe.Pointer
		level, size   uint32
		log           uint64
		version, flag uint32
		name          [16]byte
		device, as    uint32
	}{
		kind: cgroupSockAddr, count: uint32(len(program)), instructions: unsafe.Pointer(&program[0]),
		license: unsafe.Pointer(&license[0]), as: inet4Connect,
	}
	fd, err := bpf(progLoad, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		t.Skipf("no BPF program can be loaded: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func bpf(command uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attr), size)
	if errno != 0 {
		return -1, os.NewSyscallError("bpf", errno)
	}
	return int(fd), nil
}

// balanced makes a far host with a TCP listener on port 53, for which the services stand, and returns pools of the near
// host's address.
func balanced(t *testing.T) (to *peer, from func(ports string) *tuple.Pool) {
	t.Helper()
	pair := netns.NewVeth(t)
	pair.Far.Do(func() { to = listen(t, "tcp", net.JoinHostPort(pair.Far.Addr.String(), "53")) })
	balance(t, pair.Far.Addr)
	return to, func(ports string) *tuple.Pool { return pool(ports, pair.Near.Addr.String()+"/32") }
}

// UDP sockets towards two services with one backend have no common tuple in the kernel.
func TestUDPServicesWithOneBackendShareNoTuple(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	_, from := balanced(t)
	for _, d := range []*dialer.Dialer{{UDP: from("40100-40103")}, {UDP: from("20000-20003")}} {
		before, works := len(connectedUDP(t)), 0
		for _, service := range services {
			for range 4 {
				c, err := d.Dial("udp", service+":53")
				if err != nil {
					require.ErrorIs(t, err, tuple.ErrExhausted)
					continue
				}
				works++
				t.Cleanup(func() { c.Close() })
			}
		}
		require.Equal(t, 4, works)
		requireNoDoubles(t, before+works)
	}
	before := len(connectedUDP(t))
	for _, service := range services {
		for range 20 {
			dialUDP(t, new(dialer.Dialer), service+":53")
		}
	}
	requireNoDoubles(t, before+40)
}

// Audit finds nothing wrong with TCP connections to a service. Two services with one backend can use each other's
// tuples as soon as they are free.
func TestTCPServiceIsInOrder(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	_, from := balanced(t)
	for _, ports := range []string{"40000-40003", "20000-20003"} {
		p := from(ports)
		d := &dialer.Dialer{TCP: p}
		var conns []*dialer.TCPConn
		for range 4 {
			conns = append(conns, dial(t, d, services[0]+":53"))
		}
		differences, err := dialer.Audit("tcp", p)
		require.NoError(t, err)
		require.Empty(t, differences)
		_, err = d.Dial("tcp", services[1]+":53")
		require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
		require.Zero(t, p.Usage(netip.MustParseAddrPort(services[1]+":53")).InUse)
		for _, c := range conns {
			require.NoError(t, c.Abort())
		}
		d.Wait = 5 * time.Second // less than a tuple that others have stays taken
		for range 4 {
			defer dial(t, d, services[1]+":53").Abort()
		}
	}
}

// Two services with one backend share its tuples: each finds those that the other leaves free.
func TestTCPServicesWithOneBackend(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	_, from := balanced(t)
	for _, ports := range []string{"40000-40015", "20000-20015"} {
		d := &dialer.Dialer{TCP: from(ports)}
		for range 12 {
			dial(t, d, services[0]+":53")
		}
		for range 4 {
			dial(t, d, services[1]+":53")
		}
	}
}

// Close and a Tracker see TIME_WAIT of a connection to a service: its tuple cools down.
func TestTimeWaitOfAServiceIsSeen(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999", "net.ipv4.tcp_tw_reuse=0") {
		return
	}
	to, from := balanced(t)
	var tracker dialer.Tracker
	defer tracker.Close()
	for _, d := range []*dialer.Dialer{
		{TCP: from("40000-40004")},
		{TCP: from("20000-20004")},
		{TCP: from("40010-40014"), Tracker: &tracker},
		{TCP: from("20010-20014"), Tracker: &tracker},
	} {
		for range 5 {
			c, err := d.Dial("tcp", services[0]+":53")
			require.NoError(t, err)
			a := to.accept(t, c)
			require.NoError(t, c.Close())
			awaitFIN(t, a)
			require.NoError(t, a.Close())
		}
		require.Eventually(t, func() bool {
			return d.TCP.Stats() == tuple.Stats{Retired: 5, Destinations: 1}
		}, soon, time.Millisecond)
		_, err := d.Dial("tcp", services[0]+":53")
		require.ErrorIs(t, err, tuple.ErrExhausted)
		require.Equal(t, tuple.Stats{Retired: 5, Destinations: 1}, d.TCP.Stats(), "the kernel has them still")
	}
}
