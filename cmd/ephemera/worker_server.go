package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
)

const (
	// acceptors take connections in turn, so that a client that is slow to send its byte holds up nobody else.
	acceptors = 16
	// patience is how long a connection may take to open and to echo.
	patience = 30 * time.Second
)

// run listens, reports where, and then echoes and holds until the process ends.
func (j *serverJob) run(held *holder, send func(report)) {
	l, err := j.listen()
	if err != nil {
		send(report{Error: err.Error()})
		return
	}
	send(report{Listening: netip.MustParseAddrPort(l.Addr().String())})
	for range acceptors {
		go func() {
			buf := make([]byte, 1)
			for {
				conn, err := l.Accept()
				if err != nil {
					send(report{Error: err.Error()})
					return
				}
				if echo(conn, buf) == nil {
					held.add(conn)
				} else {
					conn.Close()
				}
			}
		}()
	}
}

// listen takes a port that is not dialed from, if the host has one left. A listener blocks its port on its own
// address only, but that is enough to cost a run its last connection when the source has the same address.
func (j *serverJob) listen() (net.Listener, error) {
	// The kernel hands SO_LINGER and the keepalive down to the connections that it accepts: no system call for each.
	lc := net.ListenConfig{Control: resetOnClose, KeepAlive: -1}
	ports := alloc.New(alloc.RangeSet(1024, 65535).Difference(j.Avoid))
	for {
		port, ok := ports.Acquire()
		if !ok {
			port = 0 // the kernel's choice
		}
		l, err := lc.Listen(context.Background(), "tcp", netip.AddrPortFrom(j.Address, port).String())
		switch {
		case err == nil:
			return l, nil
		case ok && errors.Is(err, syscall.EADDRINUSE):
			continue
		default:
			return nil, fmt.Errorf("cannot listen for the connections to come: %w", err)
		}
	}
}

// echo sends the first byte back.
func echo(conn net.Conn, buf []byte) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Read(buf); err != nil {
		return err
	}
	if _, err := conn.Write(buf); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}
