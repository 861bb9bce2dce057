package tuple

import (
	"hash/maphash"
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

// holder is implemented by every contender.
type holder interface {
	Acquire(dst netip.AddrPort) tuple.Tuple
	Release(t tuple.Tuple) bool
	Contains(t tuple.Tuple) bool
}

type contender struct {
	name string
	new  func() holder
}

// holders are the contenders. ephemera has source addresses, and ephemera-any has none.
var holders = []contender{
	{"ephemera", func() holder {
		return pool{&tuple.Pool{Sources: []netip.Prefix{netip.PrefixFrom(source4, 32), netip.PrefixFrom(source6, 128)}}}
	}},
	{"ephemera-any", func() holder { return pool{new(tuple.Pool)} }},
	{"rwmap", func() holder { return &rwMap{m: map[tuple.Tuple]struct{}{}} }},
	{"shardmap", newShardMap},
	{"syncmap", func() holder { return new(syncMap) }},
	{"xsync", func() holder { return xsyncMap{xsync.NewMap[tuple.Tuple, struct{}]()} }},
	{"gvisor", newGVisor},
}

// none does nothing: it measures the benchmark's own work.
type none struct{}

func (none) Acquire(netip.AddrPort) tuple.Tuple { return tuple.Tuple{} }
func (none) Release(tuple.Tuple) bool           { return true }
func (none) Contains(tuple.Tuple) bool          { return true }

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

// draw draws random ports until add accepts the tuple towards dst.
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

// shardMap is 64 maps, each with a mutex. The hash of a tuple chooses its map.
type shardMap struct {
	seed   maphash.Seed
	shards [64]shard
}

type shard struct {
	mu sync.Mutex
	m  map[tuple.Tuple]struct{}
	_  [48]byte // fills the cache line
}

func newShardMap() holder {
	a := &shardMap{seed: maphash.MakeSeed()}
	for i := range a.shards {
		a.shards[i].m = map[tuple.Tuple]struct{}{}
	}
	return a
}

func (a *shardMap) of(t tuple.Tuple) *shard {
	return &a.shards[maphash.Comparable(a.seed, t)%uint64(len(a.shards))]
}

func (a *shardMap) Acquire(dst netip.AddrPort) tuple.Tuple {
	return draw(dst, func(t tuple.Tuple) bool {
		s := a.of(t)
		s.mu.Lock()
		defer s.mu.Unlock()
		_, held := s.m[t]
		if !held {
			s.m[t] = struct{}{}
		}
		return !held
	})
}

func (a *shardMap) Release(t tuple.Tuple) bool {
	s := a.of(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, held := s.m[t]
	delete(s.m, t)
	return held
}

func (a *shardMap) Contains(t tuple.Tuple) bool {
	s := a.of(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, held := s.m[t]
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

// gVisor is used as by its TCP endpoint: it picks a port and reserves it towards the destination.
type gVisor struct {
	m   *ports.PortManager
	rng gvrand.RNG
}

func newGVisor() holder {
	a := gVisor{ports.NewPortManager(), gvrand.RNGFrom(gvrand.Reader)}
	if err := a.m.SetPortRange(first, first+count-1); err != nil {
		panic(err)
	}
	return a
}

var (
	networks4 = []tcpip.NetworkProtocolNumber{header.IPv4ProtocolNumber}
	networks6 = []tcpip.NetworkProtocolNumber{header.IPv6ProtocolNumber}
)

func reservation(key tuple.Key) ports.Reservation {
	networks, src, dst := networks4, key.Src(), key.Dst()
	if dst.Addr().Is6() {
		networks = networks6
	}
	return ports.Reservation{
		Networks:  networks,
		Transport: header.TCPProtocolNumber,
		Addr:      address(src),
		Dest:      tcpip.FullAddress{Addr: address(dst.Addr()), Port: dst.Port()},
	}
}

func address(a netip.Addr) tcpip.Address {
	if a.Is4() {
		return tcpip.AddrFrom4(a.As4())
	}
	return tcpip.AddrFrom16(a.As16())
}

func (a gVisor) Acquire(dst netip.AddrPort) tuple.Tuple {
	key := tuple.KeyFrom(sourceFor(dst), dst)
	to := reservation(key)
	port, err := a.m.PickEphemeralPort(a.rng, func(port uint16) (bool, tcpip.Error) {
		to.Port = port
		_, err := a.m.ReservePort(a.rng, to, nil)
		return err == nil, nil
	})
	if err != nil {
		panic(err)
	}
	return key.Tuple(port)
}

func (a gVisor) Release(t tuple.Tuple) bool {
	r := reservation(t.Key())
	r.Port = t.Src().Port()
	a.m.ReleasePort(r)
	return true
}

func (gVisor) Contains(tuple.Tuple) bool { panic("gVisor has no lookup") }
