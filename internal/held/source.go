package held

import (
	"sync/atomic"

	"github.com/ephemera-go/ephemera/internal/ports"
)

// source is the port space of one source towards one large destination.
type source struct {
	named   atomic.Uint64 // the number of the source, plus 1; 0 if it is not in use
	level   *level        // in which it lies under LeastUsed, nil if in none, and
	at      int           // where in it
	held    ports.Space   // in use, retired or taken
	retired *ports.Space  // nil if none ever was
	taken   *ports.Space  // nil if none ever was
}

func (s *source) number() uint64 { return s.named.Load() - 1 }

// state returns how a port stands that is held.
func (s *source) state(port uint16) State {
	switch {
	case s.retired != nil && s.retired.Contains(port):
		return Retired
	case s.taken != nil && s.taken.Contains(port):
		return Taken
	}
	return InUse
}

// mark puts a port that s holds in one of its two other sets, which is made when it is first needed.
func (s *source) mark(set **ports.Space, port uint16) {
	if *set == nil {
		*set = new(ports.Space)
	}
	(*set).Use(s.held.Allowed())
	(*set).Reserve(port)
}
