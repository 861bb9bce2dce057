package main

import "syscall"

// resetOnClose is a Control function: it makes close send a reset and drop the socket at once (SO_LINGER of 0 s), so
// that the end of a process, SIGKILL included, leaves neither connections nor TIME_WAIT behind.
func resetOnClose(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	}); cerr != nil {
		return cerr
	}
	return err
}
