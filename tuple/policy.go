package tuple

// Policy says which of the sources a Pool takes a tuple from, among those that have a free port.
type Policy uint8

const (
	// RoundRobin has the sources take turns towards each destination.
	RoundRobin Policy = iota

	// LeastUsed takes the source of whose ports the fewest are held towards the destination, in use or retired.
	LeastUsed

	// StickyDestination always takes the same source towards the same destination.
	StickyDestination

	// StickyOwner always takes the same source for the same Request.Owner, so that a client leaves from the same address
	// wherever it goes. A request without one is served as by RoundRobin.
	//
	// Both sticky policies take another source, again the same one each time, while the first has no free port. When a
	// prefix is added to the list or taken out, only as many destinations or owners change theirs as fall to it or fell
	// to it (rendezvous hashing); a prefix that is cut up counts as others. List single addresses if they come and go
	// one by one. The hash is keyed anew in each Pool.
	StickyOwner

	// Random takes each source with the same probability.
	Random
)
