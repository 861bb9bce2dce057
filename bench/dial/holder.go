//go:build linux

package main

import (
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/ephemera-go/ephemera/bench/internal/lab"
)

// holders are the processes that hold the connections of a contender: a process may often open 20,000 files, and one
// that holds nothing has no heap to collect while it is timed.
type holders struct {
	processes []*lab.Process
	room      int // for connections, in the last
}

// hold opens a connection from each port, or one of the kernel's choice where it is 0.
func (h *holders) hold(c *contender, ports []uint16) error {
	for len(ports) > 0 {
		if h.room == 0 {
			if err := h.add(c); err != nil {
				return err
			}
		}
		some := ports[:min(len(ports), h.room)]
		var held int
		if err := h.processes[len(h.processes)-1].Ask(some, &held); err != nil {
			return fmt.Errorf("a process that holds connections: %w", err)
		}
		ports, h.room = ports[len(some):], h.room-len(some)
	}
	return nil
}

func (h *holders) add(c *contender) error {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	const own = 100 // files that the process has open besides
	if files.Max <= own {
		return fmt.Errorf("a process may open %d files, which is too few to hold connections: raise it (ulimit -Hn)", files.Max)
	}
	p, err := lab.Start(nil, "holder", c.name, strconv.Itoa(c.ports()))
	if err != nil {
		return err
	}
	h.processes, h.room = append(h.processes, p), int(min(files.Max, 1<<20))-own
	return nil
}

func (h *holders) stop() {
	for _, p := range h.processes {
		p.Stop()
	}
}

// holder is what such a process does: it answers how many connections it holds.
func (c *contender) holder() error {
	var held []net.Conn
	return lab.Serve(func(ports []uint16) (int, error) {
		for _, port := range ports {
			conn, err := c.filler(port)("tcp", destination.String())
			if err != nil {
				return 0, err
			}
			abortOnClose(conn)
			held = append(held, conn)
		}
		return len(held), nil
	})
}
