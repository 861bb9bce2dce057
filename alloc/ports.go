package alloc

import (
	"math/rand/v2"
	"sync"

	"github.com/ephemera-go/ephemera/internal/ports"
)

// Ports allocates the ports of a Set, and knows which of them are in use. Acquire, Reserve, Release and Contains take
// constant time, however many ports are in use, and allocate no memory in the steady state. Up to 64 ports in use are a
// short list. More of them are bits: about one for each port between the first and the last of the Set.
//
// Create a Ports with New: the zero Ports has no port to give. A Ports must not be copied. It is safe for concurrent
// use. It is linearizable: Acquire fails only if no port was free at some instant during the call.
type Ports struct {
	rand func() uint64 // nil in the zero Ports

	mu    sync.Mutex
	space ports.Space
}

// New returns a Ports that hands out the ports of allowed. All of them are free.
func New(allowed Set) *Ports {
	p := &Ports{rand: rand.Uint64}
	p.space.Use(allowed.table())
	return p
}

// Acquire takes a free port into use. Each free port has the same probability, whatever happened before. It fails only
// if no port is free.
func (p *Ports) Acquire() (port uint16, ok bool) {
	if p.rand == nil {
		return 0, false
	}
	r := p.rand() // before the lock, to hold it for less time
	p.mu.Lock()
	port, ok = p.space.Acquire(r, p.rand)
	p.mu.Unlock()
	return port, ok
}

// AcquireIn is Acquire among the ports of s only. If few of them are free, it looks through the ports that both sets
// may have, 64 at a time.
func (p *Ports) AcquireIn(s Set) (port uint16, ok bool) {
	in := s.table()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.space.AcquireIn(in, p.rand)
}

// Reserve takes port into use. It fails if port is in use already, or is not in the set given to New.
func (p *Ports) Reserve(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.space.Reserve(port)
}

// Release makes port free again. It fails if port is not in use.
func (p *Ports) Release(port uint16) bool {
	p.mu.Lock()
	ok := p.space.Release(port)
	p.mu.Unlock()
	return ok
}

// Contains reports whether port is in use.
func (p *Ports) Contains(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.space.Contains(port)
}

// Len returns how many ports are in use.
func (p *Ports) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.space.Len()
}

// Free returns how many ports are free.
func (p *Ports) Free() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rand == nil {
		return 0
	}
	return p.space.Allowed().Len() - p.space.Len()
}
