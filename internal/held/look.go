package held

import "sync/atomic"

// Look is a lookup without the lock. What it reads is stored atomically, and counters tell whether that still belonged
// together when the last of it was read. If they do not say so, the answer is not known.
//
// Begin must come before the caller loads the Rules that may change, because the numbers of sources change with them.
type Look struct {
	f   *family
	seq uint64
}

// Begin begins a Look at a destination.
func (t *Table) Begin(key Key) Look {
	f := t.family(key)
	return Look{f, f.seq.Load()}
}

// Contains reports whether a tuple is held. It does not always know: not while slots move, and not of a destination's
// second source.
func (l Look) Contains(key Key, hash uint64, h Hold) (held, known bool) {
	if l.seq&1 != 0 {
		return false, false
	}
	s := l.f.slots.Load()
	if s == nil {
		return false, l.f.seq.Load() == l.seq
	}
	i := s.home(hash)
	found := s.keyWords == 1 && atomic.LoadUint64(&s.words[i])&^metaBits == key.last
	if !found { // at home already, as most are: 2 ns less
		i, found = s.find(key, hash)
	}
	known = true
	if found {
		if at := s.at(i); atomic.LoadUint64(&at[0])&metaLarge == 0 {
			held = at.has(h)
		} else {
			held, known = s.hasLarge(i, h)
		}
	}
	return held, known && l.f.seq.Load() == l.seq
}

func (s *slots) hasLarge(i int, h Hold) (held, known bool) {
	if s.large == nil { // there is another table by now
		return false, false
	}
	d := s.largeAt(i).Load()
	if d == nil {
		return false, false
	}
	return d.has(h)
}

// has knows of the first source.
func (d *destination) has(h Hold) (held, known bool) {
	renamed := d.renamed.Load()
	if d.first.named.Load() != h.Number()+1 {
		return false, false
	}
	held = d.first.held.Contains(h.Port())
	// Else the ports may be another source's, though the name is the same again.
	return held, d.renamed.Load() == renamed
}
