package tuple

import "sync/atomic"

// This is Contains without the lock: what it reads is stored atomically, and counters tell whether it still belonged
// together when the last of it was read. Where they do not say so, the answer is not known, and Contains takes the
// lock.

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
	if s := e.slots.Load(); known && s != nil {
		i := s.home(hash)
		found := s.keyWords == 1 && atomic.LoadUint64(&s.words[i])&^metaBits == key.last
		if !found { // at home already, as most are: 2 ns less
			i, found = s.find(key, hash)
		}
		if found {
			held, known = s.has(i, h, from)
		}
	} else {
		known = true
	}
	if !known || e.seq.Load() != seq || due != never && held && due <= now() { // held last: it is hard to predict
		return false, false
	}
	return held, true
}

func (s *slots) has(i int, h hold, from *sources) (held, known bool) {
	en := s.at(i)
	if atomic.LoadUint64(&en[0])&metaLarge == 0 {
		return en.has(h), true
	}
	if s.large == nil { // there is another table by now
		return false, false
	}
	d := s.largeAt(i).Load()
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
