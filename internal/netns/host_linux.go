package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Host is one end of a link: a network namespace with an interface.
type Host struct {
	// Addr and Addr6 are the addresses of the interface. Addr6 is the zero Addr if the system has no IPv6.
	Addr, Addr6 netip.Addr

	// Device is the name of the interface.
	Device string

	t         testing.TB
	namespace *os.File
}

// Do runs f on the calling goroutine. Until f returns, the thread of this goroutine is in the network namespace of h.
// Sockets that f opens stay in that namespace. Goroutines that f starts are not in it.
//
// f may end the goroutine, as [testing.T.FailNow] and the functions of package require do.
func (h *Host) Do(f func()) {
	h.t.Helper()
	runtime.LockOSThread()
	home, err := thisNamespace()
	if err != nil {
		runtime.UnlockOSThread()
		h.t.Fatalf("netns: %v", err)
	}
	defer func() { _ = home.Close() }()
	if err := enter(h.namespace); err != nil {
		runtime.UnlockOSThread()
		h.t.Fatalf("netns: %v", err)
	}
	defer func() {
		if err := enter(home); err != nil {
			panic(fmt.Sprintf("netns: a thread cannot leave a namespace: %v", err)) // it stays locked
		}
		runtime.UnlockOSThread()
	}()
	f()
}

// Sysctl sets a sysctl of the namespace, in the form "net.name=value". It skips and fails the test as [Isolate] does.
func (h *Host) Sysctl(sysctl string) {
	h.t.Helper()
	h.Do(func() { setSysctl(h.t, sysctl) })
}

func thisNamespace() (*os.File, error) { return os.Open("/proc/thread-self/ns/net") }

func enter(namespace *os.File) error {
	return os.NewSyscallError("setns", unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET))
}

// newNamespace makes a network namespace and brings up its lo. The calling thread returns to its own namespace. A new
// thread that ends with its goroutine is not an option: the goroutine may run on the first thread of the process, which
// cannot end, and whose network is /proc/self/net.
func newNamespace() (made *os.File, err error) {
	runtime.LockOSThread()
	home, err := thisNamespace()
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer func() { _ = home.Close() }()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, os.NewSyscallError("unshare", err)
	}
	if err = Up(); err == nil {
		made, err = thisNamespace()
	}
	if err := enter(home); err != nil {
		panic(fmt.Sprintf("netns: a thread cannot leave a namespace: %v", err)) // it stays locked
	}
	runtime.UnlockOSThread()
	return made, err
}

// configure brings the interface up, adds the addresses, and waits until they work.
func (h *Host) configure(addr, addr6 netip.Prefix) (err error) {
	h.Do(func() { err = h.configureHere(addr, addr6) })
	return err
}

func (h *Host) configureHere(addr, addr6 netip.Prefix) error {
	if err := bringUp(h.Device); err != nil {
		return err
	}
	device, err := net.InterfaceByName(h.Device)
	if err != nil {
		return err
	}
	if err := request(newAddr(addr, device.Index)); err != nil {
		return fmt.Errorf("add %s to %s: %w", addr, h.Device, err)
	}
	h.Addr = addr.Addr()
	err = request(newAddr(addr6, device.Index))
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // IPv6 is disabled
	}
	if err == nil {
		err = awaitAddr(addr6.Addr())
	}
	if err != nil {
		return fmt.Errorf("add %s to %s: %w", addr6, h.Device, err)
	}
	h.Addr6 = addr6.Addr()
	return nil
}
