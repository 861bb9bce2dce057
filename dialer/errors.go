package dialer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// These do not leave the package.
var (
	errTaken      = errors.New("another socket has the tuple, or may have it")
	errPortShared = errors.New("the caller's Control lets others bind the port")
	errLane       = errors.New("the settings are those of another network namespace")
	errPortZero   = errors.New("port 0 names no service")
	errMissing    = errors.New("missing address")
)

// errPortInUse is the error for a local port that the caller asked for by number.
var errPortInUse = fmt.Errorf("the local port is in use towards this address already: %w", syscall.EADDRINUSE)

// errSelf is the error for a local and a remote end that are the same.
var errSelf = fmt.Errorf("the local end is the remote end, so it would be connected to itself: %w", syscall.EADDRINUSE)

// errWaited is why a dial does not wait any longer.
var errWaited error = waitedError{}

type waitedError struct{}

func (waitedError) Error() string        { return "nothing came free within Dialer.Wait" }
func (waitedError) Timeout() bool        { return true }
func (waitedError) Is(target error) bool { return target == context.DeadlineExceeded }

// errExited is the error for a caller's Control that ended the goroutine of one of several attempts.
var errExited = errors.New("the Control of NetDialer called runtime.Goexit")

// controlError is an error of the caller's Control on its way through net.Dialer: it may look like one of the kernel's.
type controlError struct{ error }

func (e controlError) Unwrap() error { return e.error }

// controlPanic is a panic of the caller's Control on its way through net.Dialer.
type controlPanic struct{ value any }

func (p controlPanic) Error() string { return fmt.Sprintf("panic in Control: %v", p.value) }

// usedUpError makes an error of the pool one of a dial: without the destination, which the net.OpError around it has,
// and to exhaustion it adds what programs look for when a plain dial finds no port, the errno and its text.
type usedUpError struct{ err error }

func (e usedUpError) Error() string {
	switch err := e.err.(type) {
	case *tuple.ExhaustedError:
		plain := *err
		plain.Dst = netip.AddrPort{}
		plain.Err = syscall.EADDRNOTAVAIL
		if err.Err != nil {
			plain.Err = fmt.Errorf("%w: %w", syscall.EADDRNOTAVAIL, err.Err)
		}
		return plain.Error()
	case *tuple.QuotaError:
		plain := *err
		plain.Dst = netip.AddrPort{}
		return plain.Error()
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
	why, fix string
	err      error
}

// newSourceError finds out what is wrong with a source address.
func newSourceError(source netip.Addr, freeBind bool, err error) sourceError {
	e := sourceError{source: source, err: err, why: "the source address is not on this host"}
	e.fix = "add it to an interface"
	switch why, fix := sourceState(source); {
	case why != "":
		e.why, e.fix = why, fix
	case freeBind && source.Is4():
		e.fix = "add a route for it or for its prefix (ip route add local ADDRESS dev lo)"
	case sockopt.Supported && source.Is4():
		e.fix += " (ip addr add ADDRESS dev DEVICE), or a route for its prefix (ip route add local PREFIX dev lo)"
	case sockopt.Supported:
		e.fix += " (ip addr add ADDRESS dev DEVICE), or a route for its prefix (ip route add local PREFIX dev lo) and set Dialer.FreeBind"
	}
	return e
}

func (e sourceError) Error() string {
	return fmt.Sprintf("%s: %s, or leave from another one: %v (%v)", e.why, e.fix, e.err, e.source)
}

func (e sourceError) Unwrap() error { return e.err }

// explain says more of err, the end of an attempt from t, where the errno alone would mislead.
func (a *attempt) explain(err error, t tuple.Tuple) error {
	if c, ok := err.(controlError); ok {
		return c.error
	}
	source := a.localOf(t).Addr()
	switch {
	case !source.IsValid():
	case isSyscall(err, "bind") && errors.Is(err, syscall.EADDRNOTAVAIL),
		a.d.FreeBind && source.Is4() && isSyscall(err, "connect") && !isOnHost(source): // bind(2) let it pass
		return newSourceError(source, a.d.FreeBind, err)
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
