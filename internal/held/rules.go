package held

import (
	"sync"

	"github.com/ephemera-go/ephemera/internal/ports"
)

// Rules are what a pool's configuration comes to, so far as this package needs it. They do not change: other sources
// make other Rules.
type Rules struct {
	V4, V6 Sources
	Policy Policy
	Rand   func() uint64
	Hash   *Seed // of the tables
	Sticky *Seed // of the sticky policies

	cells  bool // whether slots hold tuples: not if a source may have no free port though a cell is free
	spares *spares
}

// NewRules returns the Rules of a pool without sources. A nil sticky is drawn.
func NewRules(policy Policy, rand func() uint64, sticky *Seed) Rules {
	hash := NewSeed(rand)
	if sticky == nil {
		drawn := NewSeed(rand)
		sticky = &drawn
	}
	return Rules{Policy: policy, Rand: rand, Hash: &hash, Sticky: sticky, spares: new(spares)}
}

// With returns the Rules with other sources.
func (r Rules) With(v4, v6 *Sources) Rules {
	r.V4, r.V6, r.cells = *v4, *v6, true
	for _, s := range []*Sources{v4, v6} {
		for i := range s.blocks[:s.live] {
			r.cells = r.cells && s.blocks[i].table.Len() > cellCount
		}
	}
	return r
}

// Sources returns the source addresses of the family of a destination.
func (r *Rules) Sources(key Key) *Sources {
	if key.Is6() {
		return &r.V6
	}
	return &r.V4
}

// Ask is what an acquire asks for.
type Ask struct {
	Key   Key
	Hash  uint64         // of Key
	Src   Addr           // one of the live sources; zero: any
	Ports *ports.Allowed // the source ports to choose among; nil: any
	Owner string         // for StickyOwner
	Rand  uint64         // a random number, because the caller's lock is no place to draw it
}

// Fits reports whether a tuple would do.
func (a *Ask) Fits(h Hold, from *Sources) bool {
	return from.IsLive(h.Number()) && (a.Src == (Addr{}) || a.Src == from.At(h.Number())) &&
		(a.Ports == nil || a.Ports.Contains(h.Port()))
}

// spares keep destinations with a few more tuples than a slot has cells, which come and go, from allocating, and
// sources where there are more of them than connections. A Look may still see one that has become a spare, and what its
// next user stores there, until it finds that the slot has changed.
type spares struct{ destinations, sources sync.Pool }
