//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/internal/netns"
)

// turn asks a contender to hold so many connections, or more if it does, and then to time so many dials.
type turn struct {
	Hold, Dials int
}

// timing is what each dial took, and what CPU time all of them together.
type timing struct {
	Dials []time.Duration
	CPU   time.Duration
}

// contend takes turns in a namespace of its own.
func (c *contender) contend() error {
	if err := c.setUp(); err != nil {
		return err
	}
	h := holders{contender: c}
	defer h.stop()
	held := 0
	return serve(func(t turn) (timing, error) {
		ports, err := c.choose(t.Hold - held)
		if err != nil {
			return timing{}, err
		}
		if err := h.hold(ports); err != nil {
			return timing{}, err
		}
		held += len(ports)
		return c.time(t.Dials, held == c.ports())
	})
}

// setUp makes the network of the contender.
func (c *contender) setUp() error {
	if err := netns.Up(); err != nil {
		return err
	}
	sysctls := [][2]string{
		{"core/somaxconn", "1000000"},
		{"ipv4/ip_local_port_range", fmt.Sprint(c.first, " ", c.last)},
	}
	if c.outside {
		sysctls = append(sysctls[:1], [][2]string{{"ipv4/ip_unprivileged_port_start", "0"}, {"ipv4/ip_local_port_range", "1 1023"}}...)
	}
	for _, s := range sysctls {
		if err := os.WriteFile("/proc/sys/net/"+s[0], []byte(s[1]), 0); err != nil {
			return err
		}
	}
	return listen()
}

// listen listens at the destination, and accepts nothing.
func listen() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	address := &unix.SockaddrInet4{Port: int(destination.Port()), Addr: destination.Addr().As4()}
	if err := unix.Bind(fd, address); err != nil {
		return os.NewSyscallError("bind", err)
	}
	return os.NewSyscallError("listen", unix.Listen(fd, 1_000_000))
}

// choose chooses the ports of n more connections; all are 0 where the kernel is to choose.
func (c *contender) choose(n int) ([]uint16, error) {
	ports := make([]uint16, max(0, n))
	if c.pool == nil {
		return ports, nil
	}
	for i := range ports {
		t, err := c.pool.TryAcquire(destination)
		if err != nil {
			return nil, err
		}
		ports[i] = t.Src().Port()
	}
	return ports, nil
}

// time times n dials, which must fail if nothing is free and must not if something is.
func (c *contender) time(n int, full bool) (timing, error) {
	result := timing{Dials: make([]time.Duration, n)}
	dial := c.dialer()
	before := cpuTime()
	for i := range result.Dials {
		start := time.Now()
		conn, err := dial("tcp", destination.String())
		result.Dials[i] = time.Since(start)
		if (err != nil) != full {
			return timing{}, fmt.Errorf("a dial with every port held: %t; its error: %w", full, err)
		}
		if err == nil { // closing is not timed, and takes a system call to leave out
			result.CPU += cpuTime() - before
			abortOnClose(conn)
			conn.Close()
			before = cpuTime()
		}
	}
	result.CPU += cpuTime() - before
	return result, nil
}

// cpuTime is what this process has used, its system calls included.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// abortOnClose keeps TIME_WAIT out of the measurement.
func abortOnClose(c net.Conn) { c.(interface{ SetLinger(int) error }).SetLinger(0) }
