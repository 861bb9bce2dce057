package sockdiag

import (
	"fmt"
	"strings"
)

// State is a TCP state in Linux's numbers (include/net/tcp_states.h).
// UDP sockets are [Established] when connected and [Close] when not.
// The zero State is not valid.
type State uint8

// The states of RFC 9293, and three of Linux's own.
const (
	Established State = iota + 1
	SynSent
	SynRecv
	FinWait1
	FinWait2
	TimeWait
	Close
	CloseWait
	LastAck
	Listen
	Closing

	// NewSynRecv is how the kernel files a connection that a listener has not
	// accepted from its SYN queue. It is asked for, and reported, as SynRecv.
	NewSynRecv

	// BoundInactive asks for TCP sockets that are bound and neither connected nor
	// listening; they are reported as Close. Kernels before 6.8 do not list them.
	BoundInactive
)

// stateNames are the names in the first column of ss(8).
var stateNames = [...]string{
	Established:   "ESTAB",
	SynSent:       "SYN-SENT",
	SynRecv:       "SYN-RECV",
	FinWait1:      "FIN-WAIT-1",
	FinWait2:      "FIN-WAIT-2",
	TimeWait:      "TIME-WAIT",
	Close:         "UNCONN",
	CloseWait:     "CLOSE-WAIT",
	LastAck:       "LAST-ACK",
	Listen:        "LISTEN",
	Closing:       "CLOSING",
	NewSynRecv:    "NEW-SYN-RECV",
	BoundInactive: "BOUND-INACTIVE",
}

// String returns the state as ss(8) writes it: "ESTAB", "TIME-WAIT", "UNCONN".
func (s State) String() string {
	if s == 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("STATE-%d", uint8(s))
	}
	return stateNames[s]
}

// States is a set of states. The zero States stands for every state but
// [BoundInactive], which costs the kernel a walk of its own.
type States uint32

// everyState is what the zero States stands for: what `ss -a` asks for.
const everyState = States(1)<<BoundInactive - 2

// StatesOf returns the set of the given states. A number beyond
// [BoundInactive] is left out.
func StatesOf(states ...State) States {
	var set States
	for _, s := range states {
		if s != 0 && s <= BoundInactive {
			set |= 1 << s
		}
	}
	return set
}

// Contains reports whether s is in the set.
func (set States) Contains(s State) bool {
	if set == 0 {
		set = everyState
	}
	return s < 32 && set&(1<<s) != 0
}

// String returns the names of the states, joined by "|", and "all" for the zero
// States.
func (set States) String() string {
	if set == 0 {
		return "all"
	}
	var names []string
	for s := range State(32) {
		if set&(1<<s) != 0 {
			names = append(names, s.String())
		}
	}
	return strings.Join(names, "|")
}
