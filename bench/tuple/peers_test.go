package tuple

import (
	"bufio"
	crand "crypto/rand"
	"math/rand/v2"
	"net/netip"
	"sync"

	"github.com/puzpuzpuz/xsync/v4"
	gvrand "gvisor.dev/gvisor/pkg/rand"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/ports"

	"github.com/ephemera-go/ephemera/tuple"
)

const (
	first = 1024
	count = 64512 // ports, as many as a Pool has
)

var (
	source4 = netip.MustParseAddr("192.0.2.1")
	source6 = netip.MustParseAddr("2001:db8::1")
)

func sourceFor(dst netip.AddrPort) netip.Addr {
	if dst.Addr().Is4() {
		return source4
	}
	return source6
}

// holder is what every contender can do.
type holder interface {
	Acquire(dst netip.AddrPort) tuple.Tuple
	Release(t tuple.Tuple) bool
	Contains(t tuple.Tuple) bool
}

// holders are the contenders, ephemera with and without a source address of its own.
var holders = []struct {
	name string
	new  func() holder
}{
	{"ephemera", func() holder {
		return pool{&tuple.Pool{Sources: []netip.Prefix{netip.PrefixFrom(source4, 32), netip.PrefixFrom(source6, 128)}}}
	}},
	{"ephemera-any", func() holder { return pool{new(tuple.Pool)} }},
	{"rwmap", func() holder { return &rwMap{m: map[tuple.Tuple]struct{}{}} }},
	{"syncmap", func() holder { return new(syncMap) }},
	{"xsync", func() holder { return xsyncMap{xsync.NewMap[tuple.Tuple, struct{}]()} }},
	{"gvisor", newGVisor},
}

type pool struct{ p *tuple.Pool }

func (a pool) Acquire(dst netip.AddrPort) tuple.Tuple {
	t, err := a.p.TryAcquire(dst)
	if err != nil {
		panic(err)
	}
	return t
}
func (a pool) Release(t tuple.Tuple) bool  { return a.p.Release(t) }
func (a pool) Contains(t tuple.Tuple) bool { return a.p.Contains(t) }

// draw puts in a tuple towards dst with a random port that add takes.
func draw(dst netip.AddrPort, add func(t tuple.Tuple) bool) tuple.Tuple {
	key := tuple.KeyFrom(sourceFor(dst), dst)
	for {
		if t := key.Tuple(uint16(first + rand.Uint32N(count))); add(t) {
			return t
		}
	}
}

type rwMap struct {
	mu sync.RWMutex
	m  map[tuple.Tuple]struct{}
}

func (a *rwMap) Acquire(dst netip.AddrPort) tuple.Tuple {
	a.mu.Lock()
	defer a.mu.Unlock()
	return draw(dst, func(t tuple.Tuple) bool {
		_, held := a.m[t]
		if !held {
			a.m[t] = struct{}{}
		}
		return !held
	})
}

func (a *rwMap) Release(t tuple.Tuple) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, held := a.m[t]
	delete(a.m, t)
	return held
}

func (a *rwMap) Contains(t tuple.Tuple) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	_, held := a.m[t]
	return held
}

type syncMap struct{ m sync.Map }

func (a *syncMap) Acquire(dst netip.AddrPort) tuple.Tuple {
	return draw(dst, func(t tuple.Tuple) bool {
		_, held := a.m.LoadOrStore(t, struct{}{})
		return !held
	})
}

func (a *syncMap) Release(t tuple.Tuple) bool {
	_, held := a.m.LoadAndDelete(t)
	return held
}

func (a *syncMap) Contains(t tuple.Tuple) bool {
	_, held := a.m.Load(t)
	return held
}

type xsyncMap struct {
	m *xsync.Map[tuple.Tuple, struct{}]
}

func (a xsyncMap) Acquire(dst netip.AddrPort) tuple.Tuple {
	return draw(dst, func(t tuple.Tuple) bool {
		_, held := a.m.LoadOrStore(t, struct{}{})
		return !held
	})
}

func (a xsyncMap) Release(t tuple.Tuple) bool {
	_, held := a.m.LoadAndDelete(t)
	return held
}

func (a xsyncMap) Contains(t tuple.Tuple) bool {
	_, held := a.m.Load(t)
	return held
}

// gVisor reserves as its TCP endpoint does: it picks a port and reserves it towards the destination.
type gVisor struct {
	m   *ports.PortManager
	mu  sync.Mutex // rng is not safe for concurrent use
	rng gvrand.RNG
}

func newGVisor() holder {
	a := &gVisor{m: ports.NewPortManager(), rng: gvrand.RNG{Reader: bufio.NewReader(crand.Reader)}}
	if err := a.m.SetPortRange(first, first+count-1); err != nil {
		panic(err)
	}
	return a
}

func (a *gVisor) reservation(key tuple.Key, port uint16) ports.Reservation {
	network, src, dst := header.IPv4ProtocolNumber, key.Src(), key.Dst()
	if dst.Addr().Is6() {
		network = header.IPv6ProtocolNumber
	}
	return ports.Reservation{
		Networks:  []tcpip.NetworkProtocolNumber{network},
		Transport: header.TCPProtocolNumber,
		Addr:      tcpip.AddrFromSlice(src.AsSlice()),
		Port:      port,
		Dest:      tcpip.FullAddress{Addr: tcpip.AddrFromSlice(dst.Addr().AsSlice()), Port: dst.Port()},
	}
}

func (a *gVisor) Acquire(dst netip.AddrPort) tuple.Tuple {
	key := tuple.KeyFrom(sourceFor(dst), dst)
	a.mu.Lock()
	defer a.mu.Unlock()
	port, err := a.m.PickEphemeralPort(a.rng, func(port uint16) (bool, tcpip.Error) {
		_, err := a.m.ReservePort(a.rng, a.reservation(key, port), nil)
		return err == nil, nil
	})
	if err != nil {
		panic(err)
	}
	return key.Tuple(port)
}

func (a *gVisor) Release(t tuple.Tuple) bool {
	a.m.ReleasePort(a.reservation(t.Key(), t.Src().Port()))
	return true
}

func (a *gVisor) Contains(tuple.Tuple) bool { panic("gVisor has no lookup") }
