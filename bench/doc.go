// Package bench is where ephemera is measured against what else does its job: alloc by go test -bench, dial by a command.
// RESULTS.md has the figures. It is a module of its own, so that nobody who imports ephemera inherits its peers.
package bench
