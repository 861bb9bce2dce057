package alloc

import (
	"bufio"
	crand "crypto/rand"
	"sync"

	"gvisor.dev/gvisor/pkg/rand"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
)

// gVisor is the PortManager of gVisor's network stack, used as its TCP endpoint uses it, towards one destination: it walks
// on from a random port and tries to reserve each.
type gVisor struct {
	mu   sync.Mutex // rng is not safe for concurrent use
	m    *ports.PortManager
	rng  rand.RNG
	held map[uint16]bool // for Release to tell: the PortManager does not
}

func newGVisor() allocator {
	a := &gVisor{m: ports.NewPortManager(), rng: rand.RNG{Reader: bufio.NewReader(crand.Reader)}, held: map[uint16]bool{}}
	if err := a.m.SetPortRange(first, last); err != nil {
		panic(err)
	}
	return a
}

func (a *gVisor) reserve(port uint16) bool {
	_, err := a.m.ReservePort(a.rng, gVisorReservation(port), nil)
	return err == nil
}

func gVisorReservation(port uint16) ports.Reservation {
	return ports.Reservation{
		Networks:  gVisorNetworks,
		Transport: header.TCPProtocolNumber,
		Addr:      tcpip.AddrFrom4([4]byte{192, 0, 2, 1}),
		Port:      port,
		Dest:      tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{198, 51, 100, 7}), Port: 443},
	}
}

var gVisorNetworks = []tcpip.NetworkProtocolNumber{header.IPv4ProtocolNumber}

func (a *gVisor) Acquire() (uint16, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	port, err := a.m.PickEphemeralPort(a.rng, func(port uint16) (bool, tcpip.Error) { return a.reserve(port), nil })
	if err != nil {
		return 0, false
	}
	a.held[port] = true
	return port, true
}

func (a *gVisor) Reserve(port uint16) { a.held[port] = a.reserve(port) }

func (a *gVisor) Release(port uint16) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.held[port] {
		return false
	}
	delete(a.held, port)
	a.m.ReleasePort(gVisorReservation(port))
	return true
}
