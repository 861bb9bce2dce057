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

// destroyGroups are the multicast groups SKNLGRP_INET_*_DESTROY and SKNLGRP_INET6_*_DESTROY of
// include/uapi/linux/sock_diag.h, as a mask for bind(2).
var destroyGroups = map[Protocol]uint32{
	TCP: 1<<0 | 1<<2,
	UDP: 1<<1 | 1<<3,
}

const (
	// destroyBuffer is the receive buffer that Watch asks for: some 4,000 messages. Without privilege the kernel grants
	// twice net.core.rmem_max, which holds some hundred.
	destroyBuffer = 4 << 20

	// destroyMessage holds any message about one socket. They are of some 500 bytes, and grow with struct tcp_info.
	destroyMessage = 4 << 10

	// destroyBatch is how many messages Next reads before it returns, so that its caller can do other things.
	destroyBatch = 256

	// destroyCheck is how often a Next that waits looks whether its socket is still there. The runtime does not learn
	// that a descriptor was closed behind its back.
	destroyCheck = time.Second
)

// Watcher hears from the kernel of each socket that is destroyed, and asks it which sockets there are. Both concern the
// network namespace of the thread that called Watch, whichever thread uses the Watcher.
//
// A socket is destroyed when all who have it have closed it, and it has nothing left to do. One that lingers in
// FIN_WAIT_1 is not destroyed yet. One that left TIME_WAIT behind is. The message comes when the socket is in no
// table any more, and its TIME_WAIT is.
//
// A Watcher comes from Watch and must not be copied. Stop may be called at any time, the other methods by one goroutine
// at a time.
type Watcher struct {
	events   *os.File // the netlink socket of the multicast groups, for the runtime to wait for
	raw      syscall.RawConn
	self     uint64    // its cookie, and
	checked  time.Time // when it was last seen to be that
	stopped  atomic.Bool
	draining bool // messages were lost, and more wait
	buf      []byte
	asks     *conn
}

// Watch starts to listen: Next tells of the sockets of these protocols that are destroyed from now on. No protocol
// means TCP. The receive buffer has that many bytes, or the usual size if it is 0. It needs no privilege.
//
// The error Is [errors.ErrUnsupported] if the kernel has no sock_diag for one of the protocols. Else it is a
// syscall.Errno, or says that the runtime cannot wait for the socket (epoll_ctl fails where a user has too many
// watches).
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

// open takes over fd.
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
	// A kernel without the diag module of a protocol accepts the bind and stays silent. A question that no socket
	// matches gets an error from it.
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

// pollable returns fd as a file that the runtime can wait for. If epoll_ctl(2) fails, os.NewFile says nothing, and
// makes the file one that blocks.
func pollable(fd int) (*os.File, error) {
	f := os.NewFile(uintptr(fd), "sock_diag")
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("the runtime cannot wait for a netlink socket "+
			"(see /proc/sys/fs/epoll/max_user_watches): %w", err)
	}
	return f, nil
}

// socketCookie returns what no other socket ever has, 0 if the kernel does not tell (Linux 4.12 does). The error says
// that fd is no socket.
func socketCookie(fd int) (uint64, error) {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return 0, nil
	}
	return cookie, os.NewSyscallError("getsockopt SO_COOKIE", err)
}

// unsupportedBy marks an error by which a kernel says that it has no sock_diag as one that Is errors.ErrUnsupported.
func unsupportedBy(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return errors.Join(err, errors.ErrUnsupported)
	}
	return err
}

// Namespace returns the number of the Watcher's network namespace, 0 if the kernel does not tell.
func (w *Watcher) Namespace() uint64 { return w.asks.cookie() }

// Next waits until sockets are destroyed, Stop is called or the timeout is over. It calls each with the cookie of every
// socket that the kernel told of. Cookies are unique over both protocols.
//
// If lost, the receive buffer has overflowed, and messages are missing: some from before the overflow, and all until
// the buffer was emptied, which Next has done. The answers to all questions from then on are right.
//
// The error is [os.ErrClosed] once Stop was called. Any other error means that the Watcher is broken and hears
// nothing any more, because its descriptor was closed or replaced by somebody else: Next finds that within a
// second.
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
			// The deadline may have passed before the socket was read.
			err = w.raw.Control(func(fd uintptr) { lost, _, failed = w.read(int(fd), each) })
			return lost, cmp.Or(failed, w.closedOr(err))
		}
	}
}

// closedOr returns err, or os.ErrClosed if it comes from Stop.
func (w *Watcher) closedOr(err error) error {
	if err != nil && w.stopped.Load() {
		return os.ErrClosed
	}
	return err
}

// read reads what is there, at most a batch. It is done unless there was nothing.
func (w *Watcher) read(fd int, each func(cookie uint64)) (lost, done bool, err error) {
	if now := time.Now(); now.Sub(w.checked) >= destroyCheck {
		switch self, err := socketCookie(fd); {
		case err != nil:
			return false, true, err
		case self != w.self:
			return false, true, errors.New("the descriptor is another socket's")
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
			// Until the queue is empty the kernel drops every further message, and does not say so again
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

// eachDestroyed calls each for the sockets of one datagram. Messages that do not decode are of another kind, and are
// skipped.
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

// All is Query.All in the network namespace of the Watcher. To stop early is not cheap here: the rest of the answer is
// read all the same, because the netlink socket stays open.
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

// Find is Exact.Lookup on a netlink socket of the Watcher's own, in its network namespace: x.Namespace does not matter.
func (w *Watcher) Find(x Exact) (Socket, bool, error) { return x.lookup(w.asks.find) }

// Stop makes Next return, now and ever after.
func (w *Watcher) Stop() {
	w.stopped.Store(true)
	_ = w.events.Close()
}

// Close frees what the Watcher has. Nothing may use it any more.
func (w *Watcher) Close() {
	if w.events != nil {
		w.Stop()
	}
	if w.asks != nil {
		w.asks.close()
	}
}
