package tuple

// levels groups the sources of a destination that have a free port by how many tuples they hold, so that the least used
// one is found in O(1). They exist only under LeastUsed, and only for sources in use.
type levels struct {
	lowest *level
	spare  *level // without sources, for a source that goes to and fro
}

// level is the sources that hold so many tuples, in no order.
type level struct {
	held          int
	sources       []*source
	lower, higher *level
}

// moved puts s, which has just come to hold one tuple more or fewer or is new, where it belongs.
func (l *levels) moved(s *source) {
	near := s.level
	if near != nil {
		l.take(s)
	}
	held := s.held.Len(s.table)
	if held == 0 || s.isFull() {
		if near != nil {
			l.drop(near)
		}
		return
	}
	lower := near // the highest level below held, from near on
	for lower != nil && lower.held >= held {
		lower = lower.lower
	}
	for next := l.after(lower); next != nil && next.held < held; next = l.after(lower) {
		lower = next
	}
	at := l.after(lower)
	if at == nil || at.held != held {
		higher := at
		if at = l.spare; at == nil {
			at = new(level)
		}
		l.spare = nil
		at.held, at.lower, at.higher = held, lower, higher
		if at.higher != nil {
			at.higher.lower = at
		}
		if lower != nil {
			lower.higher = at
		} else {
			l.lowest = at
		}
	}
	s.level, s.at = at, len(at.sources)
	at.sources = append(at.sources, s)
	if near != nil {
		l.drop(near)
	}
}

// after returns the level above this one, the lowest for nil.
func (l *levels) after(at *level) *level {
	if at == nil {
		return l.lowest
	}
	return at.higher
}

// take takes s out of its level.
func (l *levels) take(s *source) {
	at := s.level
	last := len(at.sources) - 1
	at.sources[s.at] = at.sources[last]
	at.sources[s.at].at = s.at
	at.sources[last] = nil
	at.sources = at.sources[:last]
	s.level = nil
}

// drop takes out a level without sources.
func (l *levels) drop(at *level) {
	if len(at.sources) > 0 {
		return
	}
	if at.higher != nil {
		at.higher.lower = at.lower
	}
	if at.lower != nil {
		at.lower.higher = at.higher
	} else {
		l.lowest = at.higher
	}
	at.lower, at.higher = nil, nil
	l.spare = at
}
