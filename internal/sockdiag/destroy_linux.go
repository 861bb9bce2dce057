package sockdiag

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// destroyGroups has the multicast groups SKNLGRP_INET_*_DESTROY and SKNLGRP_INET6_*_DESTROY of
// include/uapi/linux/sock_diag.h, as masks for bind(2).
var destroyGroups = map[Protocol]uint32{
	TCP: 1<<0 | 1<<2,
	UDP: 1<<1 | 1<<3,
}

const (
	// destroyBuffer is the size of the receive buffer that Watch asks for. It holds about 4,000 messages. Without
	// privilege the kernel grants twice net.core.rmem_max, which holds a few hundred.
	destroyBuffer = 4 << 20

	// destroyMessage holds any message about one socket. A message has about 500 bytes, and grows with struct tcp_info.
	destroyMessage = 4 << 10

	// destroyBatch is how many messages Next reads before it returns, so that its caller can do other things.
	destroyBatch = 256

	// destroyCheck is how often a waiting Next checks that its socket still exists. The runtime does not notice if
	// other code closes the descriptor.
	destroyCheck = time.Second
)

// Watcher receives a message from the kernel for each socket that is destroyed. It also finds and lists sockets. It
// works in the network namespace of the thread that called Watch, even if another thread uses it.
//
// The kernel destroys a socket when every process has closed it and it has nothing left to do. A socket in FIN_WAIT_1
// is not destroyed yet. A socket that has left an entry in TIME_WAIT is destroyed. When the message comes, the socket
// itself is in no table any more, and its TIME_WAIT entry is in the table.
//
// Create a Watcher with Watch. It must not be copied. Any goroutine may call Stop at any time. Only one goroutine at a
// time may call the other methods.
type Watcher struct {
	events   *os.File // the netlink socket of the multicast groups, which the runtime can wait for
	raw      syscall.RawConn
	self     uint64    // the cookie of events
	checked  time.Time // when the descriptor last had this cookie
	stopped  atomic.Bool
	draining bool // messages were lost, and more are in the queue
	buf      []byte
	asks     *conn
}

// Watch returns a Watcher for the sockets of these protocols that are destroyed from now on. No protocol means TCP.
// buffer is the value of SO_RCVBUF in bytes; 0 asks for 4 MiB. Watch needs no privilege.
//
// The error Is [errors.ErrUnsupported] if the kernel has no sock_diag for one of the protocols. Any other error is a
// syscall.Errno, or says that the runtime cannot wait for the socket, because epoll_ctl(2) fails if a user has too many
// watches.
func Watch(buffer int, protocols ...Protocol) (*Watcher, error) {
	if len(protocols) == 0 {
		protocols = []Protocol{TCP}
	}
	groups := uint32(0)
	for _, p := range protocols {
		if err := checkProtocol(p); err != nil {
			return nil, fmt.Errorf("sockdiag: watch sockets: %w", err)
		}
		groups |= destroyGroups[p]
	}
	runtime.LockOSThread() // all sockets in one network namespace
	defer runtime.UnlockOSThread()
	fd, err := listenDestroyed(buffer, groups)
	if err != nil {
		return nil, err
	}
	w := &Watcher{buf: make([]byte, destroyMessage)}
	if err := w.open(fd, protocols); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func listenDestroyed(buffer int, groups uint32) (fd int, err error) {
	const kind = unix.SOCK_RAW | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err = unix.Socket(unix.AF_NETLINK, kind, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return -1, unsupportedBy(os.NewSyscallError("socket", err))
	}
	if buffer != 0 {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	} else if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, destroyBuffer); err != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, destroyBuffer)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("setsockopt SO_RCVBUF", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return -1, unsupportedBy(os.NewSyscallError("bind", err))
	}
	return fd, nil
}

// open makes fd the socket of w. Close then closes it.
func (w *Watcher) open(fd int, protocols []Protocol) (err error) {
	if w.events, err = pollable(fd); err != nil {
		return err
	}
	if w.self, err = socketCookie(fd); err != nil {
		return err
	}
	if w.raw, err = w.events.SyscallConn(); err != nil {
		return err
	}
	if w.asks, err = open(walkBuffer); err != nil {
		return err
	}
	// A kernel without the diag module of a protocol accepts the bind, and never sends a message. It answers a query
	// with an error, so query something that matches no socket.
	for _, p := range protocols {
		q := Query{Protocol: p, States: StatesOf(Listen), Local: Match{Ports: []PortRange{{First: 0}}}}
		for _, err := range w.All(q) {
			if err != nil {
				return unsupportedBy(err)
			}
		}
	}
	return nil
}

// pollable returns fd as a file that the runtime can wait for. If epoll_ctl(2) fails, os.NewFile reports no error and
// returns a blocking file.
func pollable(fd int) (*os.File, error) {
	f := os.NewFile(uintptr(fd), "sock_diag")
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("the runtime cannot wait for a netlink socket "+
			"(see /proc/sys/fs/epoll/max_user_watches): %w", err)
	}
	return f, nil
}

// socketCookie returns the cookie of a socket, which no other socket ever has. It is 0 on kernels before Linux 4.12. An
// error means that fd is not a socket.
func socketCookie(fd int) (uint64, error) {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return 0, nil
	}
	return cookie, os.NewSyscallError("getsockopt SO_COOKIE", err)
}

// unsupportedBy makes err one that Is errors.ErrUnsupported, if it means that the kernel has no sock_diag.
func unsupportedBy(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return errors.Join(err, errors.ErrUnsupported)
	}
	return err
}

// Namespace returns the number of the Watcher's network namespace, or 0 if the kernel does not support SO_NETNS_COOKIE.
func (w *Watcher) Namespace() uint64 { return w.asks.cookie() }

// Next waits until sockets are destroyed, Stop is called or the timeout is over. It calls each with the cookie of every
// destroyed socket. Cookies are unique over both protocols.
//
// If lost is true, the receive buffer has overflowed, and messages are missing, also some from before the overflow.
// Next has emptied the buffer. All and Find return the truth from now on.
//
// The error is [os.ErrClosed] after a call of Stop. Any other error means that the Watcher is broken and receives no
// more messages, because other code closed or replaced its descriptor. Next notices that within a second.
func (w *Watcher) Next(timeout time.Duration, each func(cookie uint64)) (lost bool, err error) {
	end := time.Now().Add(timeout)
	for {
		deadline := time.Now().Add(destroyCheck)
		last := !deadline.Before(end)
		if last {
			deadline = end
		}
		if err := w.events.SetReadDeadline(deadline); err != nil {
			return false, w.closedOr(err)
		}
		var failed error
		err = w.raw.Read(func(fd uintptr) (done bool) {
			lost, done, failed = w.read(int(fd), each)
			return done
		})
		switch {
		case failed != nil:
			return lost, failed
		case err == nil:
			return lost, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return lost, w.closedOr(err)
		case last:
			// The deadline may have passed before Read read the socket.
			err = w.raw.Control(func(fd uintptr) { lost, _, failed = w.read(int(fd), each) })
			return lost, cmp.Or(failed, w.closedOr(err))
		}
	}
}

// closedOr returns err, or os.ErrClosed if Stop caused it.
func (w *Watcher) closedOr(err error) error {
	if err != nil && w.stopped.Load() {
		return os.ErrClosed
	}
	return err
}

// read reads the messages in the queue, at most destroyBatch. It is done unless the queue was empty.
func (w *Watcher) read(fd int, each func(cookie uint64)) (lost, done bool, err error) {
	if now := time.Now(); now.Sub(w.checked) >= destroyCheck {
		switch self, err := socketCookie(fd); {
		case err != nil:
			return false, true, err
		case self != w.self:
			return false, true, errors.New("the descriptor now belongs to another socket")
		}
		w.checked = now
	}
	for n := range destroyBatch {
		size, _, _, from, err := unix.Recvmsg(fd, w.buf, nil, 0)
		kernel, ok := from.(*unix.SockaddrNetlink)
		switch {
		case errors.Is(err, unix.EAGAIN):
			lost, w.draining = w.draining, false
			return lost, lost || n > 0, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			// The kernel now drops every message until the queue is empty, and reports that only once
			// (NETLINK_S_CONGESTED in net/netlink/af_netlink.c).
			w.draining = true
		case err != nil:
			return false, true, os.NewSyscallError("recvmsg", err)
		case w.draining, !ok, kernel.Pid != 0:
		default:
			eachDestroyed(w.buf[:size], each)
		}
	}
	return false, true, nil
}

// eachDestroyed calls each for the sockets of one datagram. It skips messages of any other kind.
func eachDestroyed(datagram []byte, each func(cookie uint64)) {
	for len(datagram) > 0 {
		m, rest, err := nextMessage(datagram)
		if err != nil {
			return
		}
		if m.kind == typeSockDiag && len(m.payload) >= replySize {
			each(decodeCookie(m.payload))
		}
		datagram = rest
	}
}

// All is Query.All in the network namespace of the Watcher. It is not cheap to stop early: All reads the rest of the
// answer anyway, because the netlink socket stays open.
func (w *Watcher) All(q Query) iter.Seq2[Socket, error] { return q.all(w.walk) }

func (w *Watcher) walk(q Query, families []Family, each func(Socket) bool, interrupted *bool) error {
	stopped := false
	err := w.asks.walk(q, families, func(s Socket) bool {
		stopped = stopped || !each(s)
		return true
	}, interrupted)
	if stopped {
		return errStopped
	}
	return err
}

// Lookup finds a TCP socket that is bound to no device, as Find does.
func (w *Watcher) Lookup(local, remote netip.AddrPort) (Socket, bool, error) {
	return w.Find(Exact{Local: local, Remote: remote})
}

// Find is Exact.Lookup in the network namespace of the Watcher. It ignores x.Namespace.
func (w *Watcher) Find(x Exact) (Socket, bool, error) { return x.lookup(w.asks.find) }

// Stop makes the current Next and every later one return.
func (w *Watcher) Stop() {
	w.stopped.Store(true)
	_ = w.events.Close()
}

// Close stops the Watcher and closes its descriptors. No method may be called after it.
func (w *Watcher) Close() {
	if w.events != nil {
		w.Stop()
	}
	if w.asks != nil {
		w.asks.close()
	}
}
