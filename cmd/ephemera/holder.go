package main

import (
	"net"
	"sync"
)

// A holder keeps connections open: one that nothing points to is closed by the garbage collector.
type holder struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (h *holder) add(conn net.Conn) {
	h.mu.Lock()
	h.conns = append(h.conns, conn)
	h.mu.Unlock()
}

func (h *holder) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}
