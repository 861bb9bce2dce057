package cooling

// passes is how far TakeOldest has looked through a line, for each class of requests. Nothing fits from the oldest item
// up to the last one that was passed by. Later items join the line behind that one, so a class passes an item by only
// once.
type passes[C comparable] struct {
	list []pass[C]
	turn int // which of the list the next new class replaces, once there are mostPasses
}

type pass[C comparable] struct {
	class C
	last  uint32 // 0: none was passed by
}

// mostPasses bounds the classes that are remembered of a line, because each removal from the line looks at them all.
const mostPasses = 64

// of returns the last item that was passed by for a class, 0 if none was.
func (p *passes[C]) of(class C) uint32 {
	if p == nil {
		return 0
	}
	for i := range p.list {
		if p.list[i].class == class {
			return p.list[i].last
		}
	}
	return 0
}

func (p *passes[C]) note(class C, last uint32) {
	for i := range p.list {
		if p.list[i].class == class {
			p.list[i].last = last
			return
		}
	}
	if len(p.list) < mostPasses {
		p.list = append(p.list, pass[C]{class, last})
		return
	}
	p.list[p.turn] = pass[C]{class, last}
	p.turn = (p.turn + 1) % mostPasses
}

// leave says that node i leaves the line. older is the one before it.
func (p *passes[C]) leave(i, older uint32) {
	if p == nil {
		return
	}
	for j := range p.list {
		if s := &p.list[j]; s.last == i {
			s.last = older
		}
	}
}

// note remembers that nothing fits a class in a line, from the oldest up to last.
func (l *lines[K, C]) note(id uint32, class C, last uint32) {
	p := l.passed[id]
	if p == nil {
		if n := len(l.spare); n > 0 {
			p, l.spare = l.spare[n-1], l.spare[:n-1]
		} else {
			p = new(passes[C])
		}
		l.keep(id, p)
	}
	p.note(class, last)
}

func (l *lines[K, C]) keep(id uint32, p *passes[C]) {
	if l.passed == nil {
		l.passed = map[uint32]*passes[C]{}
	}
	l.passed[id] = p
}

// sparePasses bounds how many passes are kept for the next lines, so that lines that come and go do not allocate.
const sparePasses = 8

// forget forgets what was passed by in a line.
func (l *lines[K, C]) forget(id uint32) {
	p := l.passed[id]
	if p == nil {
		return
	}
	delete(l.passed, id)
	if len(l.spare) < sparePasses {
		clear(p.list)
		p.list, p.turn = p.list[:0], 0
		l.spare = append(l.spare, p)
	}
}
