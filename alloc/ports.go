package alloc

import (
	"math/rand/v2"
	"sync"

	"github.com/ephemera-go/ephemera/internal/ports"
)

// Ports is which ports of a Set are in use. Few of them are a short list; more are one bit a port of the set's span,
// and Acquire, Reserve, Release and Contains take the same time at any fill, and do not allocate in the steady state.
//
// Use New: the zero Ports has no port to give. A Ports must not be copied. It is safe for concurrent use, and
// linearizable: an Acquire fails only if at some instant during the call no port was free.
type Ports struct {
	rand func() uint64 // nil in the zero Ports

	mu    sync.Mutex
	space ports.Space
}

// New returns a Ports that hands out the ports of allowed, none of which is in use.
func New(allowed Set) *Ports {
	p := &Ports{rand: rand.Uint64}
	p.space.Use(allowed.table())
	return p
}

// Acquire puts a free port to use: each with the same probability, whatever has gone before. It fails only when none is
// free.
func (p *Ports) Acquire() (port uint16, ok bool) {
	if p.rand == nil {
		return 0, false
	}
	r := p.rand() // before the lock, which others may wait for
	p.mu.Lock()
	port, ok = p.space.Acquire(r, p.rand)
	p.mu.Unlock()
	return port, ok
}

// AcquireIn is Acquire among the ports that are in s as well. Its cost does not depend on how few of them are free.
func (p *Ports) AcquireIn(s Set) (port uint16, ok bool) {
	in := s.table()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.space.AcquireIn(in, p.rand)
}

// Reserve puts this port to use. It fails if port is in use already or not in the allowed set.
func (p *Ports) Reserve(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.space.Reserve(port)
}

// Release ends the use of port. It fails if port was not in use.
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

// Free returns how many ports are not in use.
func (p *Ports) Free() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rand == nil {
		return 0
	}
	return p.space.Allowed().Len() - p.space.Len()
}
