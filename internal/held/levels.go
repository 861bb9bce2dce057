package held

import "slices"

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

// smallLevel is the capacity that a level keeps when its sources leave.
const smallLevel = 64

// moved puts s, which is new or has just come to hold one tuple more or fewer, where it belongs.
func (l *levels) moved(s *source) {
	near := s.level
	if near != nil {
		l.leave(s)
	}
	held := s.held.Len()
	if held == 0 || s.held.IsFull() {
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
	level := l.after(lower)
	if level == nil || level.held != held {
		level = l.insert(held, lower, level)
	}
	s.level, s.at = level, len(level.sources)
	level.sources = append(level.sources, s)
	if near != nil {
		l.drop(near)
	}
}

// insert makes a level between two others, either of which may be nil.
func (l *levels) insert(held int, lower, higher *level) *level {
	fresh := l.spare
	if fresh == nil {
		fresh = new(level)
	}
	l.spare = nil
	fresh.held, fresh.lower, fresh.higher = held, lower, higher
	if higher != nil {
		higher.lower = fresh
	}
	if lower != nil {
		lower.higher = fresh
	} else {
		l.lowest = fresh
	}
	return fresh
}

// after returns the level above this one, the lowest for nil.
func (l *levels) after(lower *level) *level {
	if lower == nil {
		return l.lowest
	}
	return lower.higher
}

// leave takes s out of its level.
func (l *levels) leave(s *source) {
	all := s.level.sources
	last := len(all) - 1
	all[s.at] = all[last]
	all[s.at].at = s.at
	all[last] = nil
	all = all[:last]
	if last < cap(all)/4 && cap(all) > smallLevel {
		all = slices.Clone(all)
	}
	s.level.sources = all
	s.level = nil
}

// drop removes a level that has no sources.
func (l *levels) drop(empty *level) {
	if len(empty.sources) > 0 {
		return
	}
	if empty.higher != nil {
		empty.higher.lower = empty.lower
	}
	if empty.lower != nil {
		empty.lower.higher = empty.higher
	} else {
		l.lowest = empty.higher
	}
	empty.lower, empty.higher = nil, nil
	l.spare = empty
}
