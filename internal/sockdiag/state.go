package sockdiag

import (
	"fmt"
	"strings"
)

// State is a TCP state with its number in Linux (include/net/tcp_states.h). A UDP socket is [Established] if it is
// connected, and [Close] if it is not. The zero State is not valid.
type State uint8

// The states of RFC 9293 and two states that only Linux has.
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

	// NewSynRecv is the kernel's own state of a connection in the SYN queue of a listener. The kernel reports it as
	// SynRecv, and a query for SynRecv finds it.
	NewSynRecv

	// BoundInactive is only for queries: it asks for TCP sockets that are bound, and neither connected nor listening.
	// The kernel reports them as Close. Kernels before Linux 6.8 do not list them.
	BoundInactive
)

// stateNames are the names in the column State of ss(8).
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

// String returns the name that ss(8) prints, such as "ESTAB", "TIME-WAIT" or "UNCONN".
func (s State) String() string {
	if s == 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("STATE-%d", uint8(s))
	}
	return stateNames[s]
}

// States is a set of states. The zero States means every state except [BoundInactive], which costs the kernel a
// separate walk.
type States uint32

// everyState is the meaning of the zero States, and what `ss -a` asks for.
const everyState = States(1)<<BoundInactive - 2

// StatesOf returns the set of the given states. It ignores 0 and numbers above [BoundInactive].
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

// String returns the names of the states, joined by "|". The zero States is "all".
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
