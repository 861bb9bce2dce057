package held

// State is how a tuple stands.
type State uint8

// The states of a tuple. Their order is that of package tuple, where another one comes first.
const (
	Free State = iota + 1
	InUse
	Retired
	Taken
)

// Counts is how many tuples are held towards a destination, by state.
type Counts struct {
	InUse, Retired, Taken int
	Peak                  int // the most in use or retired at once since none was
}
