package cooling

// lines is the order of arrival. The items of one key are a line, the oldest first.
type lines[K, C comparable] struct {
	links  []link                // of the node with the same index
	all    []line                // the first is not in use
	free   uint32                // a line that is not in use, 0 if there is none; newest links them
	byKey  map[K]uint32          // of the lines that are in use: each has an item
	passed map[uint32]*passes[C] // of the lines in which an item was passed by
	spare  []*passes[C]          // for the next lines
}

// link is the neighbours of a node, 0 where there is none.
type link struct {
	prev         uint32 // the one before it in its series
	older, newer uint32 // in its line
	line         uint32
}

// line is the items of one key.
type line struct{ oldest, newest uint32 }

// join puts a new node i at the end of the line of key. prev is the one before it in its series.
func (l *lines[K, C]) join(key K, i, prev uint32) {
	id := l.byKey[key]
	if id == 0 {
		id = l.add(key)
	}
	for len(l.links) <= int(i) {
		l.links = append(l.links, link{})
	}
	to := &l.all[id]
	l.links[i] = link{prev: prev, older: to.newest, line: id}
	if to.newest == 0 {
		to.oldest = i
	} else {
		l.links[to.newest].newer = i
	}
	to.newest = i
}

// add adds an empty line.
func (l *lines[K, C]) add(key K) (id uint32) {
	if l.byKey == nil {
		l.byKey = map[K]uint32{}
	}
	if id = l.free; id != 0 {
		l.free = l.all[id].newest
		l.all[id] = line{}
	} else {
		if len(l.all) == 0 {
			l.all = make([]line, 1, 4)
		}
		id = uint32(len(l.all))
		l.all = append(l.all, line{})
	}
	l.byKey[key] = id
	return id
}

// leave takes node i out of the line of key. next is the one after it in its series.
func (l *lines[K, C]) leave(key K, i, next uint32) {
	e := l.links[i]
	if next != 0 {
		l.links[next].prev = e.prev
	}
	from := &l.all[e.line]
	if e.older != 0 {
		l.links[e.older].newer = e.newer
	} else {
		from.oldest = e.newer
	}
	if e.newer != 0 {
		l.links[e.newer].older = e.older
	} else {
		from.newest = e.older
	}
	if from.oldest == 0 {
		l.forget(e.line)
		delete(l.byKey, key)
		from.newest = l.free
		l.free = e.line
	} else if len(l.passed) > 0 {
		l.passed[e.line].leave(i, e.older)
	}
}

// first returns the oldest node in the line of key, 0 if there is no such line.
func (l *lines[K, C]) first(key K) uint32 {
	if id := l.byKey[key]; id != 0 {
		return l.all[id].oldest
	}
	return 0
}

// move follows the nodes to new memory: see Queue.rebuild. What was passed by stays so.
func (l *lines[K, C]) move(nodes, old []node[K]) {
	was := *l
	*l = lines[K, C]{links: make([]link, len(nodes), cap(nodes))}
	for i := range nodes {
		if n := nodes[i].next; n != 0 {
			l.links[n].prev = uint32(i)
		}
	}
	for key, before := range was.byKey {
		id := l.add(key)
		to := &l.all[id]
		for i := was.all[before].oldest; i != 0; i = was.links[i].newer {
			at := old[i].series
			e := &l.links[at]
			e.older, e.line = to.newest, id
			if to.newest == 0 {
				to.oldest = at
			} else {
				l.links[to.newest].newer = at
			}
			to.newest = at
		}
		if p := was.passed[before]; p != nil {
			for i := range p.list {
				if last := &p.list[i].last; *last != 0 {
					*last = old[*last].series
				}
			}
			l.keep(id, p)
		}
	}
}
