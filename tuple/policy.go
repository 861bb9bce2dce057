package tuple

// Policy chooses the source of a tuple, among the sources that have a free port. The zero Policy is RoundRobin.
//
// It is one of RoundRobin (the sources in turn), LeastUsed (the source with the fewest tuples towards the destination),
// StickyDestination and StickyOwner (always the same source for a destination or an owner), and Random.
type Policy uint8

const (
	// RoundRobin uses the sources in turn, separately for each destination. A destination starts at a random source.
	RoundRobin Policy = iota

	// LeastUsed uses the source with the fewest tuples towards the destination, in use, retired or taken.
	LeastUsed

	// StickyDestination always uses the same source towards the same destination. See StickyOwner for when it cannot.
	StickyDestination

	// StickyOwner always uses the same source for the same Request.Owner, so that a client has the same address towards
	// all destinations. Requests without an owner are served as under RoundRobin.
	//
	// While the source has no free port, both sticky policies use another one, the same each time. The choice is by
	// rendezvous hashing. When SetSources adds a prefix, only the destinations or owners that move to it change their
	// source. When it removes a prefix, only those that had it change. A prefix of another length is another prefix, so
	// list single addresses if they come and go one by one. Pool.StickySeed makes the choice survive a restart.
	StickyOwner

	// Random uses each source with the same probability.
	Random
)
