package main

import "syscall"

// resetOnClose is a Control function. It sets SO_LINGER to 0 s, so that close sends a reset and drops the socket at
// once. The end of a process, even by SIGKILL, then leaves neither connections nor TIME_WAIT behind.
func resetOnClose(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	}); cerr != nil {
		return cerr
	}
	return err
}
