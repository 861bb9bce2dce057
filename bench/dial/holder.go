//go:build linux

package main

import (
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/ephemera-go/ephemera/bench/internal/lab"
)

// holders are the processes that hold the connections of a contender. There are several because a process may often
// open only 20,000 files. The contender itself holds nothing, so its dials are timed with a small heap.
type holders struct {
	processes []*lab.Process
	room      int // how many more connections the last process may hold
}

// hold opens a connection from each port. For 0 the kernel chooses the port.
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
			return fmt.Errorf("a process that holds connections failed: %w", err)
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
	const own = 100 // other files that the process has open
	if files.Max <= own {
		return fmt.Errorf("a process may open too few files to hold connections: raise the limit with ulimit -Hn "+
			"(%d files)", files.Max)
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

// holder runs in such a process. It opens connections and answers how many it holds.
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
