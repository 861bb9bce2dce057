package alloc

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/bits-and-blooms/bitset"
	gvrand "gvisor.dev/gvisor/pkg/rand"

	"github.com/ephemera-go/ephemera/alloc"
)

const (
	first = 1024
	last  = 65535
	size  = last - first + 1
)

// allocator is implemented by every contender.
type allocator interface {
	Acquire() (port uint16, ok bool)
	Reserve(port uint16)
	Release(port uint16) bool
}

// peer is a contender. If it takes too long to fill by its own picks, picks returns the order that it would have.
type peer struct {
	name  string
	new   func() allocator
	picks func() []uint16
}

// peers are the contenders. Only ephemera, freelist and model pick uniformly. The others favour the ports that follow
// used ports.
var peers = []peer{
	{"ephemera", func() allocator { return ephemera{alloc.New(alloc.RangeSet(first, last))} }, nil},
	{"nextclear", func() allocator { return &nextClear{bits: bitset.New(size)} }, nil},
	{"freelist", newFreeList, nil},
	{"map", func() allocator { return &portMap{used: make(map[uint16]struct{})} }, nil},
	{"k8s", func() allocator { return &bitScan{used: new(big.Int)} }, nil},
	{"model", func() allocator { return &model{used: make([]bool, size)} }, shuffle},
	{
		"gvisor",
		func() allocator { return newGVisor(gvrand.Reader, first, last) },
		func() []uint16 { return walked(gvrand.RNGFrom(gvrand.Reader), size) },
	},
}

// none does nothing: it measures the benchmark's own work.
type none struct{}

func (none) Acquire() (uint16, bool) { return first, true }
func (none) Reserve(uint16)          {}
func (none) Release(uint16) bool     { return true }

type ephemera struct{ *alloc.Ports }

func (a ephemera) Reserve(port uint16) { a.Ports.Reserve(port) }

// nextClear takes the first clear bit after a random position, with bits-and-blooms/bitset under a mutex.
type nextClear struct {
	mu    sync.Mutex
	bits  *bitset.BitSet
	count int
}

func (a *nextClear) Acquire() (uint16, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count == size {
		return 0, false
	}
	i, ok := a.bits.NextClear(uint(rand.Uint32N(size)))
	if !ok {
		i, _ = a.bits.NextClear(0)
	}
	a.bits.Set(i)
	a.count++
	return uint16(first + i), true
}

func (a *nextClear) Reserve(port uint16) {
	a.bits.Set(uint(port) - first)
	a.count++
}

func (a *nextClear) Release(port uint16) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := uint(port) - first
	if i >= size || !a.bits.Test(i) {
		return false
	}
	a.bits.Clear(i)
	a.count--
	return true
}

// freeList keeps the free ports in an array, and swaps a random one with the last to take it. It picks uniformly, and
// takes 24 bits a port with the flags that make Release safe.
type freeList struct {
	mu   sync.Mutex
	free []uint16
	used []bool
}

func newFreeList() allocator {
	a := &freeList{used: make([]bool, size)}
	for port := first; port <= last; port++ {
		a.free = append(a.free, uint16(port))
	}
	return a
}

func (a *freeList) Acquire() (uint16, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.free)
	if n == 0 {
		return 0, false
	}
	i := rand.IntN(n)
	port := a.free[i]
	a.free[i] = a.free[n-1]
	a.free = a.free[:n-1]
	a.used[port-first] = true
	return port, true
}

func (a *freeList) Reserve(port uint16) {
	i := slices.Index(a.free, port)
	a.free[i] = a.free[len(a.free)-1]
	a.free = a.free[:len(a.free)-1]
	a.used[port-first] = true
}

func (a *freeList) Release(port uint16) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if port < first || !a.used[port-first] {
		return false
	}
	a.used[port-first] = false
	a.free = append(a.free, port)
	return true
}

// portMap keeps the used ports in a map. It walks on from a random port, unless all ports are used.
type portMap struct {
	mu   sync.Mutex
	used map[uint16]struct{}
}

func (a *portMap) Acquire() (uint16, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.used) == size {
		return 0, false
	}
	start := rand.IntN(size)
	for i := range size {
		port := uint16(first + (start+i)%size)
		if _, used := a.used[port]; !used {
			a.used[port] = struct{}{}
			return port, true
		}
	}
	return 0, false
}

func (a *portMap) Reserve(port uint16) { a.used[port] = struct{}{} }

func (a *portMap) Release(port uint16) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, used := a.used[port]
	delete(a.used, port)
	return used
}

// bitScan looks at one bit of a big.Int after the other, from a random one on, unless all are set. The service
// allocator of Kubernetes does the same.
type bitScan struct {
	mu    sync.Mutex
	used  *big.Int
	count int
}

func (a *bitScan) Acquire() (uint16, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count == size {
		return 0, false
	}
	start := rand.IntN(size)
	for i := range size {
		at := (start + i) % size
		if a.used.Bit(at) == 0 {
			a.used.SetBit(a.used, at, 1)
			a.count++
			return uint16(first + at), true
		}
	}
	return 0, false
}

func (a *bitScan) Reserve(port uint16) {
	a.used.SetBit(a.used, int(port)-first, 1)
	a.count++
}

func (a *bitScan) Release(port uint16) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := int(port) - first
	if at < 0 || a.used.Bit(at) == 0 {
		return false
	}
	a.used.SetBit(a.used, at, 0)
	a.count--
	return true
}

// model is obviously right: it lists the free ports and picks one of the list.
type model struct {
	mu   sync.Mutex
	used []bool
}

func (a *model) Acquire() (uint16, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var free []int
	for at, used := range a.used {
		if !used {
			free = append(free, at)
		}
	}
	if len(free) == 0 {
		return 0, false
	}
	at := free[rand.IntN(len(free))]
	a.used[at] = true
	return uint16(first + at), true
}

func (a *model) Reserve(port uint16) { a.used[port-first] = true }

func (a *model) Release(port uint16) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if port < first || !a.used[port-first] {
		return false
	}
	a.used[port-first] = false
	return true
}
