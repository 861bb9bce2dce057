package main

import (
	"net"
	"sync"
)

// A holder keeps connections open. Without it the garbage collector would close them.
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
