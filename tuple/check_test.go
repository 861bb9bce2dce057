package tuple

import (
	"fmt"

	"github.com/ephemera-go/ephemera/internal/cooling"
	"github.com/ephemera-go/ephemera/internal/held"
)

// Check looks at all that p holds and returns the first contradiction.
func (p *Pool) Check() error {
	st := p.ready()
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		err := sh.check(st)
		if q := sh.plan.Load().quota; err == nil && q != nil {
			err = q.check()
		}
		sh.mu.Unlock()
		if err != nil {
			return fmt.Errorf("shard %d: %w", i, err)
		}
	}
	return nil
}

func (sh *shard) check(st *state) error {
	pl := sh.plan.Load()
	if err := sh.held.Check(&pl.Rules); err != nil {
		return err
	}
	if err := sh.waits.Check(); err != nil {
		return err
	}
	fits := func(key held.Key, c class, h uint64) bool { return c.fits(key, held.Hold(h), pl) }
	if err := sh.cool.Check(fits); err != nil {
		return err
	}
	inUse, retired, taken := 0, 0, 0
	for at := range sh.held.All {
		if other, _ := st.shard(at.Key()); other != sh {
			return fmt.Errorf("%v lies in the wrong shard", at.Key().Netip())
		}
		c := at.Counts()
		inUse, retired, taken = inUse+c.InUse, retired+c.Retired, taken+c.Taken
	}
	due := sh.cool.Next()
	switch {
	case sh.inUse != inUse || sh.cool.Len()-sh.cool.Taken() != retired || sh.cool.Taken() != taken:
		return fmt.Errorf("counts %d in use, %d retired, %d taken; its destinations hold %d, %d and %d",
			sh.inUse, sh.cool.Len()-sh.cool.Taken(), sh.cool.Taken(), inUse, retired, taken)
	case sh.due.Load() != due:
		return fmt.Errorf("the next is due at %d, not at %d", due, sh.due.Load())
	case !sh.isWaitedFor() && sh.wake != nil:
		return fmt.Errorf("nobody waits, and a timer runs")
	case sh.isWaitedFor() && due != never && sh.wake == nil:
		return fmt.Errorf("%d wait for what cools down, and no timer runs", sh.waits.Len())
	case len(sh.next) > maxNext:
		return fmt.Errorf("%d destinations are remembered", len(sh.next))
	}
	for c := range sh.cool.All {
		state := held.Retired
		if c.Kind == cooling.Taken {
			state = held.Taken
		}
		if sh.held.Find(c.Key, c.Key.Hash(pl.Hash)).State(held.Hold(c.Hold)) != state {
			return fmt.Errorf("%v: port %d cools down, and does not stand so", c.Key.Netip(), held.Hold(c.Hold).Port())
		}
	}
	for key, next := range sh.next {
		if next != sh.cool.NextOf(key) {
			return fmt.Errorf("%v: the first comes free at %d, not at %d", key.Netip(), sh.cool.NextOf(key), next)
		}
	}
	for key, l := range sh.lines.All() {
		if l.IsEmpty() {
			return fmt.Errorf("%v: nobody is in its line", key.Netip())
		}
		for f := range l.Flows {
			if err := sh.checkWaits(key, f, pl); err != nil {
				return fmt.Errorf("%v: %w", key.Netip(), err)
			}
		}
	}
	return nil
}

func (c class) fits(key held.Key, h held.Hold, pl *plan) bool {
	a := held.Ask{Src: c.src, Ports: c.ports}
	return a.Fits(h, pl.Sources(key))
}

// checkWaits returns an error if a flow waits in line for its destination, although a tuple fits it and no quota stops
// it.
func (sh *shard) checkWaits(key held.Key, f *flow, pl *plan) error {
	w := f.First()
	if w.Ask.Key != key || w.Ask.sh != sh {
		return fmt.Errorf("somebody waits for another destination")
	}
	if pl.quota != nil && pl.quota.stops(f.Owner()) != noQuota {
		return nil
	}
	at := sh.held.Find(key, w.Ask.Hash)
	if !pl.mayUse(at.Counts().InUse) {
		return nil
	}
	if pl.reuses {
		for c := range sh.cool.All {
			if c.Key == key && c.Kind != cooling.Taken && w.Ask.Fits(held.Hold(c.Hold), pl.Sources(key)) {
				return fmt.Errorf("port %d is retired, and somebody waits for it", held.Hold(c.Hold).Port())
			}
		}
	}
	if w.Ask.Src == (held.Addr{}) && w.Ask.Ports == nil && pl.Sources(key).Len() > 0 && !at.IsFull(&pl.Rules) {
		return fmt.Errorf("%d wait though not all sources are full", sh.waits.Len())
	}
	return nil
}
