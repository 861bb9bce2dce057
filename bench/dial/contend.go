//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/bench/internal/lab"
	"github.com/ephemera-go/ephemera/internal/netns"
)

// turn asks a contender to hold at least this many connections and then to time this many dials.
type turn struct {
	Hold, Dials int
}

// contend takes turns in the network namespace of this process.
func (c *contender) contend() error {
	if err := c.setUp(); err != nil {
		return err
	}
	f := filling{contender: c}
	defer f.stop()
	return lab.Serve(func(t turn) (timing, error) {
		if err := f.fill(t.Hold); err != nil {
			return timing{}, err
		}
		return c.time(t.Dials, f.held == c.ports())
	})
}

// setUp makes the network and the destination.
func (c *contender) setUp() error {
	if err := netns.Up(); err != nil {
		return err
	}
	sysctls := [][2]string{{"core/somaxconn", fmt.Sprint(backlog)}, {"ipv4/ip_unprivileged_port_start", "0"}}
	if c.name == "bind" { // its ports must be outside the kernel's range
		sysctls = append(sysctls, [2]string{"ipv4/ip_local_port_range", "1 1023"})
	} else {
		sysctls = append(sysctls, [2]string{"ipv4/ip_local_port_range", fmt.Sprint(c.first, " ", c.last)})
	}
	for _, s := range sysctls {
		if err := os.WriteFile("/proc/sys/net/"+s[0], []byte(s[1]), 0); err != nil {
			return err
		}
	}
	return listen()
}

// backlog is more than all connections and dials of a run. They stay in the accept queue even when they are closed.
const backlog = 1_000_000

// listen listens at the destination and accepts nothing. The kernel then makes both ends of a connection within
// connect(2), and no other process wakes up. With a process that accepts, CPU time and p50 were about a tenth higher,
// and p99 was twice as high. The socket is not one of package net, because its poller would wake up the process that
// dials.
func listen() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	at := &unix.SockaddrInet4{Port: int(destination.Port()), Addr: destination.Addr().As4()}
	if err := unix.Bind(fd, at); err != nil {
		return os.NewSyscallError("bind", err)
	}
	return os.NewSyscallError("listen", unix.Listen(fd, backlog))
}

// time times n dials. They must fail if full, and must not fail otherwise.
func (c *contender) time(n int, full bool) (timing, error) {
	result := timing{Dials: make([]time.Duration, n)}
	dial, to := c.dialer(), destination.String()
	before := lab.CPUTime()
	for i := range result.Dials {
		start := time.Now()
		conn, err := dial("tcp", to)
		result.Dials[i] = time.Since(start)
		if (err != nil) != full {
			return timing{}, fmt.Errorf("a dial failed with a port free, or succeeded with none: %w (all held: %t)",
				err, full)
		}
		if err == nil { // the close does not count
			result.CPU += lab.CPUTime() - before
			abortOnClose(conn)
			conn.Close()
			before = lab.CPUTime()
		}
	}
	result.CPU += lab.CPUTime() - before
	return result, nil
}

// abortOnClose keeps TIME_WAIT out of the measurement.
func abortOnClose(c net.Conn) { c.(interface{ SetLinger(int) error }).SetLinger(0) }
