package tuple

// reuse takes into use what was retired first towards d of that which a asks for. It fails if none of the retired
// will do, and unless ReuseRetired is on. Nothing that will do may be free.
func (sh *shard) reuse(a *ask, d *destination, pl *plan) (h hold, ok bool) {
	if sh.cool.early == nil || d.retired == 0 {
		return 0, false
	}
	r := sh.cool.early.first(a, d.from)
	if r == nil {
		return 0, false
	}
	h = r.hold
	sh.cool.take(r)
	sh.setDue()
	d.reuse(h)
	if pl.quota != nil {
		pl.quota.freed(sh, a.key, h, Retired) // because it is counted again, perhaps as another owner's
	}
	return h, true
}

// take removes a tuple, under ReuseRetired, whether its time has come or not.
func (c *cooldown) take(r *retiree) resting {
	c.removed(r.queue.kind)
	return c.early.remove(r)
}

// reuse makes a retired or taken tuple one in use.
func (d *destination) reuse(h hold) {
	s := d.find(h.number())
	if s.isRetired(h.port()) {
		s.retired.Release(s.table, h.port())
		d.retired--
	} else {
		s.taken.Release(s.table, h.port())
		d.taken--
	}
	d.inUse++
	d.peak = max(d.peak, d.inUse+d.retired)
	d.next = 0
}
