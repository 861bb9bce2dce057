package sockdiag

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// walkBuffer holds any datagram of a walk. The kernel makes them as large as the reader's buffer, but at most 32
	// KiB (netlink_dump), which is about 260 sockets. On Linux 6.18, 3,000 connections arrive in 28 datagrams, with a
	// buffer of 32 KiB and with one of 1 MiB.
	walkBuffer = 64 << 10

	// lookupBuffer holds an answer about one socket, or an error with a copy of the request.
	lookupBuffer = 1 << 10
)

// conn is a netlink socket with its receive buffer and the number of its last request.
type conn struct {
	fd        int
	seq       uint32
	buf       []byte
	namespace uint64 // 0 if it is not known
}

// open makes a netlink socket in the network namespace of the calling thread. A read from it never has to wait: the
// kernel queues the first part of an answer before the write(2) of the request returns, and each read queues the next
// part.
//
// The socket is connected to the kernel, so that it receives no messages from other processes.
func open(buffer int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	return &conn{fd: fd, buf: make([]byte, buffer)}, nil
}

func (c *conn) close() { _ = unix.Close(c.fd) }

// cookie returns the number of the network namespace, or 0 if the kernel does not support SO_NETNS_COOKIE.
func (c *conn) cookie() uint64 {
	cookie, err := unix.GetsockoptUint64(c.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return cookie
}

// ask sends one request, whose number is c.seq.
func (c *conn) ask(question []byte) error {
	for {
		_, err := unix.Write(c.fd, question)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("write", err)
		}
	}
}

// receive returns the next datagram. It is valid until the next call.
func (c *conn) receive() ([]byte, error) {
	for {
		n, err := unix.Read(c.fd, c.buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return nil, fmt.Errorf("the kernel did not answer: %w", os.NewSyscallError("read", err))
		case err != nil:
			return nil, os.NewSyscallError("read", err)
		case n == len(c.buf): // it may be cut off: read(2) does not say
			return nil, fmt.Errorf("the kernel's answer does not fit into %d bytes", len(c.buf)-1)
		}
		return c.buf[:n], nil
	}
}

// answers calls each for every socket in the answer to request c.seq. Without dump it stops after the first socket.
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
			case typeSockDiag, typeTCPDiag:
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
	if len(families) == 2 && q.protocol() == TCP {
		// The older request avoids the second walk. A kernel that does not support it refuses it at once.
		err := c.dump(q, bothFamilies, each, interrupted)
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	for _, family := range families {
		err := c.dump(q, family, each, interrupted)
		if errors.Is(err, unix.ENOENT) {
			p := q.protocol()
			return fmt.Errorf("this kernel does not list %s sockets: load its module %s_diag: %w", p, p, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dump walks the tables once.
func (c *conn) dump(q Query, family Family, each func(Socket) bool, interrupted *bool) error {
	c.seq++
	question, err := appendDump(nil, q, family, c.seq)
	if err != nil {
		return err
	}
	if err := c.ask(question); err != nil {
		return err
	}
	return c.answers(q.protocol(), true, interrupted, each)
}

func (c *conn) find(x Exact) (s Socket, found bool, err error) {
	c.seq++
	if err := c.ask(appendLookup(c.buf[:0], x, c.seq)); err != nil {
		return Socket{}, false, err
	}
	var interrupted bool
	err = c.answers(x.Protocol, false, &interrupted, func(answer Socket) bool {
		s, found = answer, true
		return true
	})
	if errors.Is(err, unix.ENOENT) {
		return Socket{}, false, nil
	}
	return s, found, err
}
