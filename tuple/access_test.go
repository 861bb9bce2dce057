package tuple_test

import (
	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/access"
	"github.com/ephemera-go/ephemera/tuple"
)

// only is what only package dialer has of a pool.
var only = access.Of[tuple.Pool, tuple.Tuple, tuple.State, alloc.Set]()
