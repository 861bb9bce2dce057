package sockopt

import (
	"os"

	"golang.org/x/sys/unix"
)

// Lock takes a name that no other process of the network namespace then gets, until it is given back: it is the name
// of a Unix socket without a file (unix(7), "abstract"), which the kernel grants once and takes back from the dead.
// If somebody has it, the error Is EADDRINUSE.
func Lock(name string) (unlock func(), err error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name}); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return func() { _ = unix.Close(fd) }, nil
}
