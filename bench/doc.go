// Package bench is where ephemera is measured against what else does its job: alloc and tuple by go test -bench, dial and
// scale by commands; report runs them all and writes RESULTS.md from what they print, which raw keeps. It is a module of its
// own, so that nobody who imports ephemera inherits its peers.
package bench
