package sockopt

import (
	"os"

	"golang.org/x/sys/unix"
)

// Lock locks a name in the network namespace, until unlock is called or the process ends. No other process can lock it
// in the meantime. The lock is an abstract Unix socket of that name (unix(7)), because the kernel grants each name only
// once. If the name is locked already, the error Is EADDRINUSE.
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
