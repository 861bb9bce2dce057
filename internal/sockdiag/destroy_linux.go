package sockdiag

import (
	"errors"
	"iter"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The multicast groups of include/uapi/linux/sock_diag.h, as a mask for bind(2): SKNLGRP_INET_TCP_DESTROY and
// SKNLGRP_INET6_TCP_DESTROY.
const destroyGroups = 1<<0 | 1<<2

const (
	// destroyBuffer is the receive buffer that is asked for: some 4,000 messages. Without privilege the kernel grants
	// twice net.core.rmem_max, with which some hundred fit.
	destroyBuffer = 4 << 20

	// destroyBatch is how many messages Next reads before it returns, so that whoever calls it comes to do other things.
	destroyBatch = 256
)

// Watcher is told by the kernel of each TCP socket that is destroyed (SKNLGRP_INET_TCP_DESTROY and its twin for IPv6), and
// asks it which there are, in the network namespace of the thread that called Watch, whichever thread uses it.
//
// A socket is destroyed when it is closed, by all who have it, and done: one that lingers in FIN_WAIT_1 is not yet, one
// that left TIME_WAIT behind is. The kernel says so once the socket is in no table any more, and its TIME_WAIT is.
//
// A Watcher comes from Watch and must not be copied. Stop may be called at any time; all else by one goroutine at a time.
type Watcher struct {
	events   *os.File // the netlink socket of the multicast groups, for the runtime to wait for
	raw      syscall.RawConn
	draining bool // messages were lost, and more wait
	buf      []byte
	asks     *conn
}

// Watch starts to listen: what is destroyed from now on will be told. The receive buffer is of that many bytes, or of the
// usual size if it is 0. It needs no privilege. The error is one that Is [errors.ErrUnsupported] where the kernel has no
// sock_diag for TCP, or a syscall.Errno.
func Watch(buffer int) (*Watcher, error) {
	runtime.LockOSThread() // all sockets in one network namespace
	defer runtime.UnlockOSThread()
	fd, err := listenDestroyed(buffer)
	if err != nil {
		return nil, err
	}
	w := &Watcher{events: os.NewFile(uintptr(fd), "sock_diag"), buf: make([]byte, lookupBuffer)}
	if err := w.open(); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func listenDestroyed(buffer int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
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
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: destroyGroups}); err != nil {
		_ = unix.Close(fd)
		return -1, unsupportedBy(os.NewSyscallError("bind", err))
	}
	return fd, nil
}

func (w *Watcher) open() (err error) {
	if w.raw, err = w.events.SyscallConn(); err != nil {
		return err
	}
	if w.asks, err = open(walkBuffer); err != nil {
		return err
	}
	// A kernel without tcp_diag accepts the bind and stays silent: a question, which no socket matches, tells.
	for _, err := range w.All(Query{States: StatesOf(Listen), Local: Match{Ports: []PortRange{{First: 0}}}}) {
		if err != nil {
			return unsupportedBy(err)
		}
	}
	return nil
}

// unsupportedBy adds to an error with which a kernel says that it has no sock_diag that it Is errors.ErrUnsupported.
func unsupportedBy(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return errors.Join(err, errors.ErrUnsupported)
	}
	return err
}

// Namespace returns the number of its network namespace, 0 if the kernel does not tell.
func (w *Watcher) Namespace() (cookie uint64) {
	_ = w.raw.Control(func(fd uintptr) { cookie, _ = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE) })
	return cookie
}

// Next waits until sockets have been destroyed, Stop was called or the time is over, and calls each with the cookie of
// every socket of which it was told.
//
// If lost, the receive buffer has overflowed, and so messages are missing: some of those before it, and all until it was
// emptied, which Next has done. All that is asked about from then on holds. The error is [os.ErrClosed] once Stop was
// called.
func (w *Watcher) Next(timeout time.Duration, each func(cookie uint64)) (lost bool, err error) {
	if err := w.events.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return false, os.ErrClosed
	}
	var failed error
	err = w.raw.Read(func(fd uintptr) (done bool) {
		for n := range destroyBatch {
			size, _, _, from, err := unix.Recvmsg(int(fd), w.buf, nil, 0)
			kernel, ok := from.(*unix.SockaddrNetlink)
			switch {
			case errors.Is(err, unix.EAGAIN):
				lost, w.draining = w.draining, false
				return lost || n > 0
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.ENOBUFS):
				// Until the queue is empty the kernel drops every further message, and does not say so again
				// (NETLINK_S_CONGESTED in net/netlink/af_netlink.c).
				w.draining = true
			case err != nil:
				failed = os.NewSyscallError("recvmsg", err)
				return true
			case w.draining, !ok, kernel.Pid != 0:
			default:
				eachDestroyed(w.buf[:size], each)
			}
		}
		return true
	})
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		failed = os.ErrClosed
	}
	return lost, failed
}

// eachDestroyed calls each for the sockets of one datagram. What does not decode is none of TCP's.
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

// All is Query.All, in the network namespace of the Watcher.
func (w *Watcher) All(q Query) iter.Seq2[Socket, error] { return q.all(w.asks.walk) }

// Lookup finds a TCP socket that is bound to no device, as Find does.
func (w *Watcher) Lookup(local, remote netip.AddrPort) (Socket, bool, error) {
	return w.Find(Exact{Local: local, Remote: remote})
}

// Find is Exact.Lookup on a netlink socket of the Watcher's own, in its network namespace: x.Namespace does not matter.
func (w *Watcher) Find(x Exact) (Socket, bool, error) { return x.lookup(w.asks.find) }

// Stop makes Next return, now and ever after.
func (w *Watcher) Stop() { _ = w.events.Close() }

// Close frees what the Watcher has. Nothing may use it any more.
func (w *Watcher) Close() {
	w.Stop()
	if w.asks != nil {
		w.asks.close()
	}
}
