package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// walkBuffer holds any datagram of a walk. The kernel makes them as large as the
	// reader's buffer, 32 KiB at most (netlink_dump): some 260 sockets. Measured on
	// Linux 6.18, 3,000 connections arrive in 28 datagrams with buffers of 32 KiB and
	// of 1 MiB alike.
	walkBuffer = 64 << 10

	// lookupBuffer holds an answer about one socket, or an error that quotes the
	// request.
	lookupBuffer = 4 << 10

	// answerSeconds is how long a lost answer can hold up the caller. An answer
	// waits in the receive queue before the question's system call returns, so
	// no wait is ever needed.
	answerSeconds = 5
)

// conn is a netlink socket, its receive buffer, and the number of its last
// question.
type conn struct {
	fd  int
	seq uint32
	buf []byte
}

func open(buffer int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	timeout := unix.Timeval{Sec: answerSeconds}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt", err)
	}
	return &conn{fd: fd, buf: make([]byte, buffer)}, nil
}

func (c *conn) close() { _ = unix.Close(c.fd) }

// ask sends one question; c.seq is its number.
func (c *conn) ask(question []byte) error {
	for {
		err := unix.Sendto(c.fd, question, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("sendto", err)
		}
	}
}

// receive returns the next datagram, which the one after overwrites.
func (c *conn) receive() ([]byte, error) {
	for {
		n, _, flags, from, err := unix.Recvmsg(c.fd, c.buf, nil, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return nil, fmt.Errorf("no answer from the kernel within %d s: %w", answerSeconds, os.NewSyscallError("recvmsg", err))
		case err != nil:
			return nil, os.NewSyscallError("recvmsg", err)
		}
		if kernel, ok := from.(*unix.SockaddrNetlink); !ok || kernel.Pid != 0 {
			continue
		}
		if flags&unix.MSG_TRUNC != 0 {
			return nil, fmt.Errorf("the kernel's answer does not fit into %d bytes", len(c.buf))
		}
		return c.buf[:n], nil
	}
}

// answers calls each for every socket in the answer to question c.seq, until
// the kernel says that it is the last, or, without dump, for the first.
func (c *conn) answers(protocol Protocol, dump bool, interrupted *bool, each func(Socket) bool) error {
	for {
		datagram, err := c.receive()
		if err != nil {
			return err
		}
		for len(datagram) > 0 {
			var m message
			if m, datagram, err = nextMessage(datagram); err != nil {
				return err
			}
			if m.seq != c.seq {
				continue
			}
			if m.flags&flagInterrupted != 0 {
				*interrupted = true
			}
			switch m.kind {
			case typeDone, typeError:
				if n := m.errno(); n != 0 {
					return unix.Errno(n)
				}
				return nil
			case typeSockDiag:
				s, err := decodeSocket(m.payload, protocol)
				if err != nil {
					return err
				}
				if !each(s) {
					return errStopped
				}
				if !dump {
					return nil
				}
			}
		}
	}
}

// walk dumps the tables of each family, one after the other.
func walk(q Query, families []Family, each func(Socket) bool, interrupted *bool) error {
	c, err := open(walkBuffer)
	if err != nil {
		return err
	}
	defer c.close()
	return c.walk(q, families, each, interrupted)
}

func (c *conn) walk(q Query, families []Family, each func(Socket) bool, interrupted *bool) error {
	for _, family := range families {
		c.seq++
		question, err := appendDump(nil, q, family, c.seq)
		if err != nil {
			return err
		}
		if err := c.ask(question); err != nil {
			return err
		}
		err = c.answers(q.protocol(), true, interrupted, each)
		if errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("this kernel does not list %s sockets: load its module %s_diag: %w", q.protocol(), q.protocol(), err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// find asks for one socket. What comes back may be less than exact.
func find(protocol Protocol, local, remote netip.AddrPort) (s Socket, found bool, err error) {
	c, err := open(lookupBuffer)
	if err != nil {
		return Socket{}, false, err
	}
	defer c.close()
	return c.find(protocol, local, remote)
}

func (c *conn) find(protocol Protocol, local, remote netip.AddrPort) (s Socket, found bool, err error) {
	c.seq++
	if err := c.ask(appendLookup(nil, protocol, local, remote, c.seq)); err != nil {
		return Socket{}, false, err
	}
	var interrupted bool
	err = c.answers(protocol, false, &interrupted, func(answer Socket) bool {
		s, found = answer, true
		return true
	})
	if errors.Is(err, unix.ENOENT) {
		return Socket{}, false, nil
	}
	return s, found, err
}
