package access

import "github.com/ephemera-go/ephemera/internal/ports"

// tableOf is what ProvideTable was given.
var tableOf any

// ProvideTable makes f what Table returns. Package alloc calls it once, when its package variables are initialized: a
// Set makes its table when it is first asked for, and keeps it.
func ProvideTable[Set any](f func(Set) *ports.Allowed) struct{} {
	tableOf = f
	return struct{}{}
}

// Table returns the function that returns what the allocator needs to know of a set of ports. The type must be that of
// package alloc.
func Table[Set any]() func(Set) *ports.Allowed { return tableOf.(func(Set) *ports.Allowed) }
