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

// turn asks a contender to hold so many connections, or more if it does, and then to time so many dials.
type turn struct {
	Hold, Dials int
}

// contend takes turns in a network namespace of its own.
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
	if c.name == "bind" { // the kernel's own range is elsewhere
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

// backlog is more than all the ports and all dials of a run, which stay in the queue when they are closed.
const backlog = 1_000_000

// listen listens at the destination and accepts nothing. The kernel then makes both ends of a connection within
// connect(2) and no other process wakes up, which is the least disturbance: with one that accepts, CPU time and p50
// were about a tenth more and p99 twice as much. The socket is not package net's, whose poller would wake up the
// process that dials.
func listen() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(destination.Port()), Addr: destination.Addr().As4()}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	return os.NewSyscallError("listen", unix.Listen(fd, backlog))
}

// time times n dials, which must fail if nothing is free and must not if something is.
func (c *contender) time(n int, full bool) (timing, error) {
	result := timing{Dials: make([]time.Duration, n)}
	dial, to := c.dialer(), destination.String()
	before := lab.CPUTime()
	for i := range result.Dials {
		start := time.Now()
		conn, err := dial("tcp", to)
		result.Dials[i] = time.Since(start)
		if (err != nil) != full {
			return timing{}, fmt.Errorf("a dial with every port held: %t; its error: %w", full, err)
		}
		if err == nil { // closing is not timed, and takes a system call to leave out
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
