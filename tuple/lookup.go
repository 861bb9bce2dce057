package tuple

import "sync/atomic"

// This is Contains without the lock: what it reads is stored atomically, and counters tell whether it still belonged
// together when the last of it was read. Where they do not say so, the answer is not known, and Contains takes the lock.

// has is contains without the lock. It does not always know: not while entries move, not of a destination's second
// source, and not when something has just cooled down.
func (sh *shard) has(key dstKey, hash uint64, t *Tuple) (held, known bool) {
	due := sh.due.Load() // first: it must not be that of what is left when another call has freed the tuple
	e := sh.entries(key)
	seq := e.seq.Load()
	if seq&1 != 0 {
		return false, false
	}
	from := sh.plan.Load().sources(key) // after seq: when the plan changes, so do the numbers in the entries
	h, known := from.find(t)
	if !known {
		return false, e.seq.Load() == seq
	}
	if at, found := e.find(key, hash); found {
		held, known = at.has(h, from)
	}
	if !known || e.seq.Load() != seq || held && due != never && due <= now() {
		return false, false
	}
	return held, true
}

func (at place) has(h hold, from *sources) (held, known bool) {
	en := at.entry()
	if atomic.LoadUint64(&en[0])&metaLarge == 0 {
		return en.has(h), true
	}
	if at.s.large == nil { // there is another table by now
		return false, false
	}
	d := at.s.largeAt(at.i).Load()
	if d == nil {
		return false, false
	}
	return d.has(h, from)
}

// has knows of the first source.
func (d *destination) has(h hold, from *sources) (held, known bool) {
	renamed := d.renamed.Load()
	if d.first.named.Load() != h.number()+1 {
		return false, false
	}
	held = d.first.held.Contains(from.table(h.number()), h.port())
	return held, d.renamed.Load() == renamed // else the ports may be another source's, though the name is the same again
}
