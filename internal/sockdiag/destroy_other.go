//go:build !linux

package sockdiag

import (
	"iter"
	"net/netip"
	"time"
)

// Watcher is for Linux.
type Watcher struct{}

// Watch is for Linux.
func Watch(int, ...Protocol) (*Watcher, error) { return nil, unsupported() }

// Namespace is for Linux.
func (w *Watcher) Namespace() uint64 { return 0 }

// Next is for Linux.
func (w *Watcher) Next(time.Duration, func(cookie uint64)) (lost bool, err error) {
	return false, unsupported()
}

// All is for Linux.
func (w *Watcher) All(q Query) iter.Seq2[Socket, error] { return q.all(walk) }

// Lookup is for Linux.
func (w *Watcher) Lookup(local, remote netip.AddrPort) (Socket, bool, error) {
	return Socket{}, false, unsupported()
}

// Find is for Linux.
func (w *Watcher) Find(Exact) (Socket, bool, error) { return Socket{}, false, unsupported() }

// Stop is for Linux.
func (w *Watcher) Stop() {}

// Close is for Linux.
func (w *Watcher) Close() {}
