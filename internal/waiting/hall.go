package waiting

import (
	"container/list"

	"github.com/ephemera-go/ephemera/internal/shrink"
)

// Hall is the flows of one lock, by the class of what their waiters ask for. A is what a waiter asks for, and O what it
// gets. The zero Hall is empty. It must not be copied after its first use.
type Hall[C comparable, A, O any] struct {
	flows shrink.Map[C, *Flow[C, A, O]]
	n     int
}

// Len returns how many wait.
func (h *Hall[C, A, O]) Len() int { return h.n }

// Flow returns the flow of a class, nil if nobody of the class waits.
func (h *Hall[C, A, O]) Flow(class C) *Flow[C, A, O] { return h.flows.Get(class) }

// Join adds a waiter at the end of the flow of its class. If there is none, it begins one in the line. The arrival must
// be higher than that of everybody who waits. The caller has found room.
func (h *Hall[C, A, O]) Join(class C, owner string, ask A, arrival uint64, l *Line[C, A, O]) *Waiter[C, A, O] {
	w := &Waiter[C, A, O]{Ask: ask, arrival: arrival, got: make(chan O, 1)}
	h.n++
	f := h.flows.Get(class)
	if f != nil {
		w.flow, w.at = f, f.waiters.PushBack(w)
		f.line.room.add(owner, 1)
		return w
	}
	f = &Flow[C, A, O]{class: class, owner: owner, hall: h}
	w.flow, w.at = f, f.waiters.PushBack(w)
	h.flows.Put(class, f)
	l.add(f)
	return w
}

// Fail gives every waiter what why returns for it, and leaves nobody.
func (h *Hall[C, A, O]) Fail(why func(ask *A) O) {
	for _, f := range h.flows.All() {
		for n := f.waiters.Len(); n > 0; n-- {
			w := f.First()
			w.Give(why(&w.Ask))
		}
	}
}

// Waiter is somebody who waits.
type Waiter[C comparable, A, O any] struct {
	Ask     A
	arrival uint64
	flow    *Flow[C, A, O]
	at      *list.Element // in the flow
	got     chan O        // has room for one
}

// Got returns where the waiter receives what it is given.
func (w *Waiter[C, A, O]) Got() <-chan O { return w.got }

// Give takes the waiter out of line, and gives it something.
func (w *Waiter[C, A, O]) Give(o O) {
	w.Leave()
	w.got <- o
}

// Leave takes the waiter out of line.
func (w *Waiter[C, A, O]) Leave() {
	f := w.flow
	l := f.line
	f.hall.n--
	if f.waiters.Len() == 1 {
		f.hall.flows.Delete(f.class)
		l.remove(f)
		f.waiters.Init()
		return
	}
	f.waiters.Remove(w.at)
	l.flows.Moved(f)
	l.room.add(f.owner, -1)
	l.hasChanged()
}
