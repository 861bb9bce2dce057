package main

import (
	"fmt"
	"syscall"
)

// openFiles returns how many files a process of this user may open. That is the hard limit, because the Go runtime
// raises the soft limit to it.
func openFiles() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("cannot read RLIMIT_NOFILE: %w", err)
	}
	return int(min(limit.Max, 1<<30)), nil
}
