package tuple

import (
	"errors"
	"fmt"

	"github.com/ephemera-go/ephemera/internal/held"
	"github.com/ephemera-go/ephemera/internal/shrink"
)

// SetSources replaces the sources of p and their ports while p is in use. New sources are added, sources that stay keep
// what they hold, and sources that are no longer listed are drained. An empty list drains all.
//
// A drained source hands out nothing, and neither does a port that a source no longer has. What is held there stays
// held, and is counted, found and given back as before. If the source or port is listed again, what is held there
// belongs to it again. HeldFrom tells when a drained source holds nothing any more.
//
// Waiters that the new sources can serve are served. The others go on waiting.
//
// SetSources takes time in proportion to what p holds. Meanwhile some destinations have the old sources and some the
// new ones. It fails, and changes nothing, if the list is not valid for Pool.Sources, if Pool.Sources is empty, or if p
// is closed.
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
		return errors.New("tuple: SetSources: the Pool has no Sources, so the operating system picks the address: " +
			"make another Pool")
	}
	next := new(plan)
	*next = *old
	v4, v6, err := old.sourcesFrom("SetSources: sources", list)
	if err != nil {
		return err
	}
	return st.move(old, next, v4, v6, "SetSources: sources")
}

// move puts another plan in force, with these live sources and the drained ones of the old plan. It fails, and changes
// nothing, if they are too many. what names them in the error.
func (st *state) move(old, next *plan, v4, v6 *held.Sources, what string) error {
	held4, held6 := make([]bool, old.V4.DrainedBlocks()), make([]bool, old.V6.DrainedBlocks())
	if len(held4)+len(held6) > 0 {
		for i := range st.shards {
			sh := &st.shards[i]
			sh.mu.Lock()
			sh.settle(old)
			sh.held.DrainedInUse(&old.Rules, held4, held6) // a drained source not in use cannot become so later
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

// move puts another plan in force in a shard, and serves the waiters that it can serve.
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
	var waited []held.Key // a copy, because serving may remove lines
	for key := range sh.lines.All() {
		waited = append(waited, key)
	}
	for _, key := range waited {
		sh.serveWaiters(key, next) // both, because a reused tuple may have counted for an owner who waits for its quota
	}
	if next.quota != nil {
		next.quota.serve()
	}
}
