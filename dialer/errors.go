package dialer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// errTaken says that the kernel has another use for a tuple. It does not leave the package.
var errTaken = errors.New("the kernel says that the tuple is in use")

// errLane says that a connection was tried in a lane that is no longer that of its port. It does not leave the package.
var errLane = errors.New("the kernel's range of ephemeral ports has changed")

// errPortInUse is the error for a local port that the caller asked for by number.
var errPortInUse = fmt.Errorf("the local port is in use towards this address already: %w", syscall.EADDRINUSE)

// errSelf is the error for a local and a remote end that are the same.
var errSelf = fmt.Errorf("the local end is the remote end, so it would be connected to itself: %w", syscall.EADDRINUSE)

// errExited is the error for a caller's Control that ended the goroutine of one of several attempts.
var errExited = errors.New("the Control of NetDialer called runtime.Goexit")

// controlError is an error of the caller's Control on its way through net.Dialer: it may look like one of the kernel's.
type controlError struct{ error }

func (e controlError) Unwrap() error { return e.error }

// controlPanic is a panic of the caller's Control on its way through net.Dialer.
type controlPanic struct{ value any }

func (p controlPanic) Error() string { return fmt.Sprintf("panic in Control: %v", p.value) }

// usedUpError makes an error of the pool one of a dial. To exhaustion it adds what programs look for when a plain dial finds no
// port: the errno and its text.
type usedUpError struct{ err error }

func (e usedUpError) Error() string {
	if errors.Is(e.err, tuple.ErrExhausted) {
		return e.err.Error() + ": " + syscall.EADDRNOTAVAIL.Error()
	}
	return e.err.Error()
}

func (e usedUpError) Unwrap() error { return e.err }

func (e usedUpError) Is(target error) bool {
	return target == syscall.EADDRNOTAVAIL && errors.Is(e.err, tuple.ErrExhausted)
}

// Timeout is for net.OpError, which does not look further than one level.
func (e usedUpError) Timeout() bool { return isTimeout(e.err) }

// isUsedUp reports whether err says that the pool had no tuple, which it may have later.
func isUsedUp(err error) bool {
	return errors.Is(err, tuple.ErrExhausted) || errors.Is(err, tuple.ErrQuota)
}

// withReason adds to an error of the pool why it was not waited for.
func withReason(err, why error) error {
	switch e := err.(type) {
	case *tuple.ExhaustedError:
		e.Err = why
	case *tuple.QuotaError:
		e.Err = why
	}
	return err
}

// isSyscall reports whether err comes from the system call of that name.
func isSyscall(err error, name string) bool {
	call, ok := errors.AsType[*os.SyscallError](err)
	return ok && call.Syscall == name
}

// sourceError is the error for a source address that the kernel does not let us use.
type sourceError struct {
	source   netip.Addr
	freeBind bool
	err      error
}

func (e sourceError) Error() string {
	fix := "add it to an interface"
	switch {
	case e.freeBind && e.source.Is4():
		fix = fmt.Sprintf("add a route for it or for its prefix (ip route add local %v dev lo)", e.source)
	case sockopt.Supported && e.source.Is4():
		fix += fmt.Sprintf(" (ip addr add %v dev ...), or a route for its prefix (ip route add local ... dev lo)", e.source)
	case sockopt.Supported:
		fix += fmt.Sprintf(" (ip addr add %v dev ...), or a route for its prefix (ip route add local ... dev lo) and set Dialer.FreeBind", e.source)
	}
	return fmt.Sprintf("%v is not an address of this host: %s, or leave from another one: %v", e.source, fix, e.err)
}

func (e sourceError) Unwrap() error { return e.err }

// explain says more of err, the end of an attempt from t, where the errno alone would mislead.
func (a *attempt) explain(err error, t tuple.Tuple) error {
	source := a.localOf(t).Addr()
	switch {
	case !source.IsValid():
	case isSyscall(err, "bind") && errors.Is(err, syscall.EADDRNOTAVAIL),
		a.FreeBind && source.Is4() && isSyscall(err, "connect") && !isOnHost(source): // bind(2) let it pass
		return sourceError{source, a.FreeBind, err}
	}
	return err
}

// isOnHost reports whether the kernel takes ip for one of its own.
func isOnHost(ip netip.Addr) bool {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	if err == nil {
		c.Close()
	}
	return !errors.Is(err, syscall.EADDRNOTAVAIL)
}
