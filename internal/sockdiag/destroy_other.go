//go:build !linux

package sockdiag

import (
	"iter"
	"net/netip"
	"time"
)

// Watcher works on Linux only.
type Watcher struct{}

// Watch fails: only Linux has sock_diag.
func Watch(int, ...Protocol) (*Watcher, error) { return nil, unsupported() }

// Namespace returns 0.
func (w *Watcher) Namespace() uint64 { return 0 }

// Next fails.
func (w *Watcher) Next(time.Duration, func(cookie uint64)) (lost bool, err error) {
	return false, unsupported()
}

// All yields an error.
func (w *Watcher) All(q Query) iter.Seq2[Socket, error] { return q.all(walk) }

// Lookup fails.
func (w *Watcher) Lookup(local, remote netip.AddrPort) (Socket, bool, error) {
	return Socket{}, false, unsupported()
}

// Find fails.
func (w *Watcher) Find(Exact) (Socket, bool, error) { return Socket{}, false, unsupported() }

// Stop does nothing.
func (w *Watcher) Stop() {}

// Close does nothing.
func (w *Watcher) Close() {}
