package tuple

import (
	"fmt"

	"github.com/ephemera-go/ephemera/internal/held"
)

// check compares the quotas with what the shards hold. The caller must hold the lock.
func (q *quota) check() error {
	all, retired, waiting := 0, 0, 0
	of, ofRetired := map[*owner]int{}, map[*owner]int{}
	for i := range q.shards {
		sh := &q.shards[i]
		all += sh.inUse + (sh.cool.Len() - sh.cool.Taken())
		retired += (sh.cool.Len() - sh.cool.Taken())
		waiting += sh.waits.Len()
		for o, owner := range sh.owned.All() {
			of[owner]++
			state := sh.held.Find(o.key, o.key.Hash(sh.plan.Load().Hash)).State(o.hold)
			if state != held.InUse && state != held.Retired {
				return fmt.Errorf("port %d towards %v has an owner, and is free or taken", o.hold.Port(), o.key.Netip())
			}
			if state == held.Retired {
				ofRetired[owner]++
			}
		}
	}
	ready, inLine := 0, 0
	for name, o := range q.owners.All() {
		switch {
		case o.name != name || o.held != of[o] || o.retired != ofRetired[o]:
			return fmt.Errorf("owner %q holds %d, %d of them retired, counted %d and %d",
				name, of[o], ofRetired[o], o.held, o.retired)
		case o.held == 0 && o.line.IsEmpty():
			return fmt.Errorf("owner %q holds nothing, waits for nothing and is still there", name)
		case o.held < q.perOwner && !o.line.IsEmpty():
			ready++
			if o.at < 0 || q.ready[o.at] != o {
				return fmt.Errorf("owner %q could be served and is not ready", name)
			}
		case o.at >= 0:
			return fmt.Errorf("owner %q cannot be served and is ready", name)
		}
		for f := range o.line.Flows {
			inLine += f.Len()
		}
		delete(of, o)
	}
	switch {
	case all != q.held || retired != q.retiredCount || len(of) > 0:
		return fmt.Errorf("the quota counts %d held, %d of them retired, the shards %d and %d; %d owners are unknown",
			q.held, q.retiredCount, all, retired, len(of))
	case len(q.ready) != ready || inLine != q.room.Len() || inLine > waiting:
		return fmt.Errorf("%d owners are ready, counted %d; %d of %d wait for the quotas, counted %d",
			len(q.ready), ready, inLine, waiting, q.room.Len())
	case q.next() != nil:
		return fmt.Errorf("the quotas have room, and %q waits for them", q.ready[0].name)
	case q.awake != (q.room.Len() > 0):
		return fmt.Errorf("%d wait for the quotas, and the shards know otherwise", q.room.Len())
	}
	return nil
}
