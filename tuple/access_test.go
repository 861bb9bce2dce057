package tuple_test

import (
	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/access"
	"github.com/ephemera-go/ephemera/tuple"
)

// only has the methods of a pool that only package dialer uses.
var only = access.Of[tuple.Pool, tuple.Tuple, tuple.State, alloc.Set]()
