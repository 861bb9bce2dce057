package tuple

import (
	"errors"
	"fmt"

	"github.com/ephemera-go/ephemera/internal/held"
	"github.com/ephemera-go/ephemera/internal/shrink"
)

// SetSources replaces the sources of p, and which of their ports are handed out, while p is in use: it adds those
// that are new, goes on with those that stay, and drains those that are no longer listed. From a source that is
// drained, and of a port that is no longer a source's, nothing is handed out any more; what is held there lives on,
// is counted and found as before, and is free for good once it is given back. A source that is listed again, or gets
// a port back, goes on with what is still held. Whoever waits for what the new sources have gets it; whoever waits
// for what they have not waits on.
//
// It takes time in proportion to what p holds, and while it goes from one lock to the next, some destinations have
// the new sources and some the old ones. It fails, and changes nothing, if the list is one that Pool.Sources could
// not be, or if Pool.Sources is empty, which leaves the addresses to the operating system. An empty list drains all.
// HeldFrom tells when a source that was drained holds nothing any more.
func (p *Pool) SetSources(list ...Source) error {
	st := p.ready()
	p.init.Lock() // one at a time
	defer p.init.Unlock()
	old := st.shards[0].plan.Load()
	if old.err == ErrClosed {
		return fmt.Errorf("tuple: SetSources: %w", ErrClosed)
	}
	if old.err != nil {
		return old.err
	}
	if old.V4.Any() {
		return errors.New("tuple: SetSources on a Pool without Sources: it leaves the address to the operating system; make another Pool")
	}
	next := new(plan)
	*next = *old
	v4, v6, err := old.sourcesFrom("SetSources: sources", list)
	if err != nil {
		return err
	}
	return st.move(old, next, v4, v6, "SetSources: sources")
}

// move goes over to another plan with these sources, which do not have the drained ones yet. It fails, and changes
// nothing, if they are too many; the error calls them what.
func (st *state) move(old, next *plan, v4, v6 *held.Sources, what string) error {
	held4, held6 := make([]bool, old.V4.DrainedBlocks()), make([]bool, old.V6.DrainedBlocks())
	if len(held4)+len(held6) > 0 {
		for i := range st.shards {
			sh := &st.shards[i]
			sh.mu.Lock()
			sh.settle(old)
			sh.held.DrainedInUse(&old.Rules, held4, held6) // none of them can become so later
			sh.mu.Unlock()
		}
	}
	v4.Keep(&old.V4, held4)
	v6.Keep(&old.V6, held6)
	if err := checkFit(what, v6); err != nil {
		return err
	}
	next.Rules = old.With(v4, v6)
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		sh.move(old, next)
		sh.mu.Unlock()
	}
	return nil
}

// move makes the tuples of a shard those of another plan, and gives those who wait what that has for them.
func (sh *shard) move(old, next *plan) {
	sh.settle(old)
	renumber := func(key held.Key, h held.Hold) held.Hold {
		return held.Renumber(h, old.Sources(key), next.Sources(key))
	}
	sh.held.Move(&old.Rules, &next.Rules, func() { sh.plan.Store(next) })
	sh.cool.Renumber(func(key held.Key, h uint64) uint64 { return uint64(renumber(key, held.Hold(h))) })
	was := sh.owned
	sh.owned = shrink.Map[ownedTuple, *owner]{}
	for t, owner := range was.All() {
		t.hold = renumber(t.key, t.hold)
		sh.owned.Put(t, owner)
	}
	var waited []held.Key // because lines may end when those in them are served
	for key := range sh.lines.All() {
		waited = append(waited, key)
	}
	for _, key := range waited {
		sh.serveBoth(key, next) // under ReuseRetired, what was retired may have been somebody's who waits for a quota
	}
	if next.quota != nil {
		next.quota.serve()
	}
}
