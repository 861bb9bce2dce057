package waiting

import (
	"container/list"

	"github.com/ephemera-go/ephemera/internal/shrink"
)

// Flow is the waiters of one class, in order of arrival. There is at least one. They wait as one, in the place of the
// first.
type Flow[C comparable, A, O any] struct {
	class   C
	owner   string
	hall    *Hall[C, A, O]
	waiters list.List // of *Waiter
	line    *Line[C, A, O]
	at      int // in the line
}

// Len returns how many wait in the flow.
func (f *Flow[C, A, O]) Len() int { return f.waiters.Len() }

// Owner returns whose the flow is.
func (f *Flow[C, A, O]) Owner() string { return f.owner }

// First returns the waiter who came first.
func (f *Flow[C, A, O]) First() *Waiter[C, A, O] { return f.waiters.Front().Value.(*Waiter[C, A, O]) }

// Arrival returns when the first waiter came.
func (f *Flow[C, A, O]) Arrival() uint64 { return f.First().arrival }

// Line returns where the flow waits.
func (f *Flow[C, A, O]) Line() *Line[C, A, O] { return f.line }

// Room returns the room in which the flow waits.
func (f *Flow[C, A, O]) Room() *Room[C, A, O] { return f.line.room }

// MoveTo has the flow wait in another line.
func (f *Flow[C, A, O]) MoveTo(l *Line[C, A, O]) {
	f.line.remove(f)
	l.add(f)
}

// Before orders the flows of a line.
func (f *Flow[C, A, O]) Before(other *Flow[C, A, O]) bool { return f.Arrival() < other.Arrival() }

// Place is where the line notes the index of the flow.
func (f *Flow[C, A, O]) Place() *int { return &f.at }

func (f *Flow[C, A, O]) last() *Waiter[C, A, O] { return f.waiters.Back().Value.(*Waiter[C, A, O]) }

// Line is the flows that wait for one thing, in order of arrival.
type Line[C comparable, A, O any] struct {
	flows   shrink.Heap[*Flow[C, A, O]]
	skipped []*Flow[C, A, O] // by the Offer that goes on
	room    *Room[C, A, O]
	changed func()
}

// NewLine returns an empty line in a room. It calls changed, unless that is nil, each time after its head may have
// become another one.
func NewLine[C comparable, A, O any](room *Room[C, A, O], changed func()) *Line[C, A, O] {
	return &Line[C, A, O]{room: room, changed: changed}
}

// IsEmpty reports whether nobody waits in the line.
func (l *Line[C, A, O]) IsEmpty() bool { return len(l.flows)+len(l.skipped) == 0 }

// Head returns the flow that came first. The line must not be empty.
func (l *Line[C, A, O]) Head() *Flow[C, A, O] { return l.flows[0] }

// Room returns the room that the line is in.
func (l *Line[C, A, O]) Room() *Room[C, A, O] { return l.room }

// Flows yields the flows of the line, in no order.
func (l *Line[C, A, O]) Flows(yield func(*Flow[C, A, O]) bool) {
	for _, f := range l.flows {
		if !yield(f) {
			return
		}
	}
}

// Verdict is what came of an offer to the head of a line.
type Verdict uint8

// The verdicts.
const (
	Again Verdict = iota // its first waiter was served, or it has moved: the head is offered something again
	Skip                 // nothing that is there would do for it: the next flow is offered something
	Stop                 // nothing is there for anybody
)

// Offer calls offer for one flow after the other, in order of arrival, until it says Stop or the line has ended.
func (l *Line[C, A, O]) Offer(offer func(*Flow[C, A, O]) Verdict) {
	for len(l.flows) > 0 {
		f := l.flows[0]
		v := offer(f)
		if v == Stop {
			break
		}
		if v == Skip {
			l.flows.Remove(f)
			l.skipped = append(l.skipped, f)
		}
	}
	if len(l.skipped) == 0 {
		return
	}
	for _, f := range l.skipped {
		l.flows.Add(f)
	}
	l.skipped = nil
	l.hasChanged()
}

func (l *Line[C, A, O]) add(f *Flow[C, A, O]) {
	f.line = l
	l.flows.Add(f)
	l.room.flows.Put(f, struct{}{})
	l.room.add(f.owner, f.waiters.Len())
	l.hasChanged()
}

func (l *Line[C, A, O]) remove(f *Flow[C, A, O]) {
	l.flows.Remove(f)
	l.room.flows.Delete(f)
	l.room.add(f.owner, -f.waiters.Len())
	l.hasChanged()
}

func (l *Line[C, A, O]) hasChanged() {
	if l.changed != nil {
		l.changed()
	}
}
