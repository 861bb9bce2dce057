package tuple

import "sync/atomic"

// This is Contains without the lock: what it reads is stored atomically, and counters tell whether it still belonged
// together when the last of it was read. Where they do not say so, the answer is not known, and Contains takes the lock.

// has is contains without the lock. It does not always know: not while entries move, not of a destination's second
// source, and not when something has just cooled down.
func (sh *shard) has(key dstKey, hash uint64, h hold, pl *plan) (held, known bool) {
	due := sh.due.Load() // first: it must not be that of what is left when another call has freed the tuple
	held, known = sh.entries(key).has(key, hash, h, pl)
	if held && due != never && due <= now() {
		return false, false
	}
	return held, known
}

// has reports whether the tuple is held.
func (e *entries) has(key dstKey, hash uint64, h hold, pl *plan) (held, known bool) {
	seq := e.seq.Load()
	if seq&1 != 0 {
		return false, false
	}
	known = true
	if at, found := e.find(key, hash); found {
		held, known = at.has(h, pl)
	}
	return held, known && e.seq.Load() == seq
}

func (at place) has(h hold, pl *plan) (held, known bool) {
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
	return d.has(h, pl)
}

// has knows of the first source.
func (d *destination) has(h hold, pl *plan) (held, known bool) {
	renamed := d.renamed.Load()
	if d.first.named.Load() != h.number()+1 {
		return false, false
	}
	held = d.first.held.Contains(pl.ports, h.port())
	return held, d.renamed.Load() == renamed // else the ports may be another source's, though the name is the same again
}
