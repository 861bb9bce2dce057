package netns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Link has the properties of a link between two hosts. The zero Link has no delay and loses nothing.
type Link struct {
	// OneWay is the delay of each packet. A round trip takes twice as long.
	OneWay time.Duration

	// Loss is the share of packets that the link loses at random in each direction, from 0 to 1.
	Loss float64

	// Seed makes the random losses the same in each run, if the packets are the same.
	Seed uint64
}

// Pair is two joined hosts. Near is the network of the process, Far is another one. Near is the default route of Far,
// so further addresses of Near work as well.
type Pair struct {
	Near, Far Host
}

// Wire is a Pair whose packets pass through this process.
type Wire struct {
	Pair
	link  Link
	near  *os.File // the TUN devices
	far   *os.File
	drops atomic.Pointer[func(packet []byte) bool]
	lost  atomic.Int64
	done  chan struct{}
	pumps sync.WaitGroup
	once  sync.Once
}

// mostOnTheWay is how many packets fit on a wire in each direction. It loses the others.
const mostOnTheWay = 1 << 14

// NewLink joins the private network of a test to a new one, until the test ends. Four goroutines carry the packets
// between two TUN devices. It needs no netem and no privilege.
//
// It fails a test that is not inside [Isolate]. It skips a test if the system has no /dev/net/tun, or refuses it.
func NewLink(t testing.TB, l Link) *Wire {
	t.Helper()
	w := &Wire{link: l, done: make(chan struct{})}
	w.Pair.open(t)
	t.Cleanup(w.Close)
	name := fmt.Sprintf("tun%d", links.Load())
	for _, end := range []struct {
		host *Host
		file **os.File
	}{{&w.Near, &w.near}, {&w.Far, &w.far}} {
		end.host.Device = name
		var err error
		end.host.Do(func() { *end.file, err = newTUN(name) })
		if err != nil {
			skipOrFail(t, "a TUN device", err)
		}
	}
	w.Pair.configure()
	w.carry(w.near, w.far, rand.New(rand.NewPCG(l.Seed, 1)))
	w.carry(w.far, w.near, rand.New(rand.NewPCG(l.Seed, 2)))
	return w
}

// NewVeth joins the private network of a test to a new one by a pair of veth devices, until the test ends. The link has
// no delay and the speed of the kernel. NewVeth fails and skips a test as [NewLink] does.
func NewVeth(t testing.TB) *Pair {
	t.Helper()
	p := new(Pair)
	p.open(t)
	t.Cleanup(p.close)
	p.Near.Device = fmt.Sprintf("veth%d", links.Load())
	p.Far.Device = p.Near.Device
	var err error
	p.Near.Do(func() { err = request(newVeth(p.Near.Device, p.Far.namespace)) })
	if err != nil {
		skipOrFail(t, "a veth device", err)
	}
	p.configure()
	return p
}

// links counts the links of this process, so that each has its own name and addresses.
var links atomic.Int64

func (p *Pair) open(t testing.TB) {
	t.Helper()
	if os.Getenv(variable) == "" {
		t.Fatal("netns: cannot change the host's network: call Isolate first")
	}
	if links.Add(1) > 255 {
		t.Fatal("netns: too many links: there are addresses for 255")
	}
	p.Near.t, p.Far.t = t, t
	var err error
	if p.Near.namespace, err = thisNamespace(); err != nil {
		t.Fatalf("netns: %v", err)
	}
	if p.Far.namespace, err = newNamespace(); err != nil {
		_ = p.Near.namespace.Close()
		skipOrFail(t, "a second network namespace", err)
	}
}

func skipOrFail(t testing.TB, what string, err error) {
	t.Helper()
	for _, e := range []error{
		unix.ENOENT, unix.ENODEV, unix.ENXIO, unix.EPERM, unix.EACCES, unix.EOPNOTSUPP, unix.ENOSPC,
	} {
		if errors.Is(err, e) {
			t.Skipf("netns: the system refuses %s: %v", what, err)
		}
	}
	t.Fatalf("netns: cannot make %s: %v", what, err)
}

// configure gives both ends addresses of RFC 2544 and RFC 3849, and Far its default route.
func (p *Pair) configure() {
	p.Near.t.Helper()
	n := byte(links.Load())
	four := func(host byte) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, n, host}), 24) }
	six := func(host byte) netip.Prefix {
		a := netip.MustParseAddr("2001:db8:18::").As16()
		a[7], a[15] = n, host
		return netip.PrefixFrom(netip.AddrFrom16(a), 64)
	}
	err := p.Near.configure(four(1), six(1))
	if err == nil {
		err = p.Far.configure(four(2), six(2))
	}
	if err == nil {
		p.Far.Do(func() { err = request(newDefaultRoute(p.Near.Addr)) })
	}
	if err == nil && p.Far.Addr6.IsValid() {
		p.Far.Do(func() { err = request(newDefaultRoute(p.Near.Addr6)) })
	}
	if err != nil {
		p.Near.t.Fatalf("netns: cannot configure a link: %v", err)
	}
}

func (p *Pair) close() {
	_ = p.Near.namespace.Close()
	_ = p.Far.namespace.Close()
}

// Drop makes the wire lose each IP packet for which drop returns true, also packets that are on their way already. If
// drop is nil, the wire no longer drops packets. Several goroutines call drop at the same time.
func (w *Wire) Drop(drop func(packet []byte) bool) {
	if drop == nil {
		w.drops.Store(nil)
		return
	}
	w.drops.Store(&drop)
}

// Cut makes the wire lose every packet if cut is true, and work again if it is false.
func (w *Wire) Cut(cut bool) {
	if cut {
		w.Drop(func([]byte) bool { return true })
	} else {
		w.Drop(nil)
	}
}

func (w *Wire) dropped(packet []byte) bool {
	drop := w.drops.Load()
	return drop != nil && (*drop)(packet)
}

// Lost returns how many packets the wire has lost.
func (w *Wire) Lost() int { return int(w.lost.Load()) }

// Close removes the link. NewLink calls it at the end of the test.
func (w *Wire) Close() {
	w.once.Do(func() {
		close(w.done)
		for _, f := range []*os.File{w.near, w.far} {
			if f != nil {
				_ = f.Close()
			}
		}
		w.pumps.Wait()
		w.Pair.close()
	})
}

// carry starts the goroutines that move the packets of one direction, in order.
func (w *Wire) carry(from, to *os.File, random *rand.Rand) {
	type packet struct {
		data []byte
		due  time.Time
	}
	queue := make(chan packet, mostOnTheWay)
	w.pumps.Go(func() {
		defer close(queue)
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return // it was closed
			}
			if random.Float64() < w.link.Loss || w.dropped(buf[:n]) {
				w.lost.Add(1)
				continue
			}
			select {
			case queue <- packet{bytes.Clone(buf[:n]), time.Now().Add(w.link.OneWay)}:
			default:
				w.lost.Add(1)
			}
		}
	})
	w.pumps.Go(func() {
		timer := time.NewTimer(0)
		defer timer.Stop()
		for p := range queue {
			if wait := time.Until(p.due); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-w.done:
					return
				}
			}
			if w.dropped(p.data) {
				w.lost.Add(1)
				continue
			}
			_, _ = to.Write(p.data) // an error means that the kernel drops the packet
		}
	})
}

// newTUN makes a TUN device for whole IP packets, in the namespace of the calling thread.
func newTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = os.NewSyscallError("ioctl TUNSETIFF", unix.IoctlIfreq(fd, unix.TUNSETIFF, request))
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// newVeth encodes RTM_NEWLINK: a struct ifinfomsg, the name, and in VETH_INFO_PEER the same for the other end, which is
// in another namespace.
func newVeth(name string, far *os.File) []byte {
	const peerInfo = 1                                 // VETH_INFO_PEER
	device := append([]byte(name), make([]byte, 4)...) // ends in 0
	device = device[:len(device)&^3]
	peer := make([]byte, unix.SizeofIfInfomsg)
	peer = appendAttr(peer, attr{unix.IFLA_IFNAME, device})
	peer = appendAttr(peer, attr{unix.IFLA_NET_NS_FD, binary.NativeEndian.AppendUint32(nil, uint32(far.Fd()))})
	info := appendAttr(nil, attr{unix.IFLA_INFO_KIND, []byte("veth")})
	info = appendAttr(info, attr{unix.IFLA_INFO_DATA, appendAttr(nil, attr{peerInfo, peer})})
	return newMessage(unix.RTM_NEWLINK, make([]byte, unix.SizeofIfInfomsg),
		attr{unix.IFLA_IFNAME, device}, attr{unix.IFLA_LINKINFO, info})
}
