package tuple

import (
	"net/netip"
	"sync/atomic"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/access"
)

// Methods that only package dialer needs. access.Methods documents each.
var _ = access.Provide(access.Methods[Pool, Tuple, State, alloc.Set]{
	RetireForKernel: (*Pool).retireForKernel,
	Yield:           (*Pool).yield,
	Take:            (*Pool).take,
	Claim:           (*Pool).claim,
	Free:            (*Pool).free,
	FreeUnless:      (*Pool).freeUnless,
	SetPorts:        (*Pool).setPorts,
	HasSource:       (*Pool).hasSource,
	HandsOut:        (*Pool).handsOut,
	Watch:           (*Pool).watch,
	Slot:            (*Pool).slotOf,
})

func (p *Pool) hasSource(family netip.Addr) bool {
	pl := p.ready().shards[0].plan.Load()
	from := &pl.V6
	if family.Unmap().Is4() {
		from = &pl.V4
	}
	return pl.err == nil && from.Len() > 0
}

func (p *Pool) slotOf() *atomic.Value { return &p.slot }
