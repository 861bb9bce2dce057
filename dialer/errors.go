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

// These errors do not leave the package.
var (
	errTaken      = errors.New("another socket has the tuple, or may have it")
	errPortShared = errors.New("the caller's Control lets others bind the port")
	errLane       = errors.New("the settings belong to another network namespace")
	errPortZero   = errors.New("port 0 names no service")
	errMissing    = errors.New("missing address")
)

// errPortInUse is the error if the caller asked for a local port and its tuple is not free.
var errPortInUse = fmt.Errorf("the local port is not free towards this address: use another one, or 0 for any: %w",
	syscall.EADDRINUSE)

// errSelf is the error if the local and the remote end are the same.
var errSelf = fmt.Errorf("the socket would be connected to itself: use another local port: %w", syscall.EADDRINUSE)

// errWaited says why a dial stopped waiting.
var errWaited error = waitedError{}

type waitedError struct{}

func (waitedError) Error() string        { return "no tuple became free within Dialer.Wait" }
func (waitedError) Timeout() bool        { return true }
func (waitedError) Is(target error) bool { return target == context.DeadlineExceeded }

// errExited is the error if the caller's Control ends the goroutine of one of several attempts.
var errExited = errors.New("the Control of NetDialer called runtime.Goexit")

// controlError wraps an error of the caller's Control on its way through net.Dialer, because it may look like an error
// of the kernel.
type controlError struct{ error }

func (e controlError) Unwrap() error { return e.error }

// controlPanic carries a panic of the caller's Control through net.Dialer.
type controlPanic struct{ value any }

func (p controlPanic) Error() string { return fmt.Sprintf("panic in Control: %v", p.value) }

// usedUpError turns an error of the pool into one of a dial. It leaves out the destination, which the surrounding
// net.OpError has. To exhaustion it adds EADDRNOTAVAIL and its text, because programs look for these when a plain dial
// finds no port.
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

// Timeout is for net.OpError, which looks at the error that it wraps but no deeper.
func (e usedUpError) Timeout() bool { return isTimeout(e.err) }

// isUsedUp reports whether err says that the pool had no tuple but may have one later.
func isUsedUp(err error) bool {
	return errors.Is(err, tuple.ErrExhausted) || errors.Is(err, tuple.ErrQuota)
}

// withReason adds to an error of the pool why the dial did not wait, or stopped waiting.
func withReason(err, why error) error {
	switch e := err.(type) {
	case *tuple.ExhaustedError:
		e.Err = why
	case *tuple.QuotaError:
		e.Err = why
	}
	return err
}

// isSyscall reports whether err comes from the system call with that name.
func isSyscall(err error, name string) bool {
	call, ok := errors.AsType[*os.SyscallError](err)
	return ok && call.Syscall == name
}

// sourceError is the error for a source address that the kernel refuses.
type sourceError struct {
	source   netip.Addr
	why, fix string
	err      error
}

// newSourceError finds out why the kernel refuses a source address.
func newSourceError(source netip.Addr, freeBind bool, err error) sourceError {
	e := sourceError{source: source, err: err, why: "the source address is not on this host"}
	e.fix = "add it to an interface"
	switch why, fix := sourceState(source); {
	case why != "":
		e.why, e.fix = why, fix
	case freeBind && source.Is4():
		e.fix = "add a route for it or for its prefix (ip route add local ADDRESS dev lo)"
	case sockopt.Supported && source.Is4():
		e.fix += " (ip addr add ADDRESS dev DEVICE), add a route for its prefix (ip route add local PREFIX dev lo)"
	case sockopt.Supported:
		e.fix += " (ip addr add ADDRESS dev DEVICE), add a route for its prefix (ip route add local PREFIX dev lo)" +
			" and set Dialer.FreeBind"
	}
	return e
}

func (e sourceError) Error() string {
	return fmt.Sprintf("%s: %s, or use another source address: %v (%v)", e.why, e.fix, e.err, e.source)
}

func (e sourceError) Unwrap() error { return e.err }

// explain adds to err, the error of an attempt from t, what the errno alone does not tell.
func (a *attempt) explain(err error, t tuple.Tuple) error {
	if c, ok := err.(controlError); ok {
		return c.error
	}
	source := a.localOf(t).Addr()
	switch {
	case !source.IsValid():
	case isSyscall(err, "bind") && errors.Is(err, syscall.EADDRNOTAVAIL),
		a.d.FreeBind && source.Is4() && isSyscall(err, "connect") && !isOnHost(source): // bind(2) accepted it
		return newSourceError(source, a.d.FreeBind, err)
	}
	return err
}

// isOnHost reports whether ip is an address of this host: the kernel lets a socket bind it.
func isOnHost(ip netip.Addr) bool {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	if err == nil {
		c.Close()
	}
	return !errors.Is(err, syscall.EADDRNOTAVAIL)
}
