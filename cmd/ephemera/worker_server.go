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
	// acceptors is how many goroutines accept, so that a client that sends its byte late does not delay the others.
	acceptors = 16
	// patience is how long a connection may take to open and to echo.
	patience = 30 * time.Second
)

// run listens and reports the address. Then it echoes and holds connections until the process ends.
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

// listen takes a port that no client dials from, if the host has one left. A listener blocks its port only on its own
// address. But if the source has the same address, that can cost a run its last connection.
func (j *serverJob) listen() (net.Listener, error) {
	// Accepted connections inherit SO_LINGER and the keepalive, which saves system calls.
	lc := net.ListenConfig{Control: resetOnClose, KeepAlive: -1}
	ports := alloc.New(alloc.RangeSet(1024, 65535).Difference(j.Avoid))
	for {
		port, ok := ports.Acquire()
		if !ok {
			port = 0 // the kernel chooses
		}
		l, err := lc.Listen(context.Background(), "tcp", netip.AddrPortFrom(j.Address, port).String())
		switch {
		case err == nil:
			return l, nil
		case ok && errors.Is(err, syscall.EADDRINUSE):
			continue
		default:
			return nil, fmt.Errorf("cannot listen: %w", err)
		}
	}
}

// echo reads one byte and sends it back.
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
