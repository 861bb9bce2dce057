package alloc

import (
	"io"

	"gvisor.dev/gvisor/pkg/rand"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
)

// gVisor is the PortManager of gVisor's network stack, towards one destination. It is used as the TCP endpoint uses it:
// it walks on from a random port and tries to reserve each.
type gVisor struct {
	m   *ports.PortManager
	rng rand.RNG
	to  ports.Reservation // without its port
}

// newGVisor returns one with the ports from first to last, both inclusive. It reads its offsets from random.
func newGVisor(random io.Reader, first, last uint16) *gVisor {
	a := &gVisor{m: ports.NewPortManager(), rng: rand.RNGFrom(random), to: ports.Reservation{
		Networks:  []tcpip.NetworkProtocolNumber{header.IPv4ProtocolNumber},
		Transport: header.TCPProtocolNumber,
		Addr:      tcpip.AddrFrom4([4]byte{192, 0, 2, 1}),
		Dest:      tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{198, 51, 100, 7}), Port: 443},
	}}
	if err := a.m.SetPortRange(first, last); err != nil {
		panic(err)
	}
	return a
}

func (a *gVisor) reservation(port uint16) ports.Reservation {
	r := a.to
	r.Port = port
	return r
}

func (a *gVisor) Acquire() (uint16, bool) {
	port, err := a.m.PickEphemeralPort(a.rng, func(port uint16) (bool, tcpip.Error) {
		_, err := a.m.ReservePort(a.rng, a.reservation(port), nil)
		return err == nil, nil
	})
	return port, err == nil
}

func (a *gVisor) Reserve(port uint16) {
	if _, err := a.m.ReservePort(a.rng, a.reservation(port), nil); err != nil {
		panic(err)
	}
}

func (a *gVisor) Release(port uint16) bool {
	a.m.ReleasePort(a.reservation(port))
	return true
}
