//go:build !linux

package main

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
)

// The command needs the kernel to count connections, which only Linux can do (sock_diag).

func supported() error {
	return fmt.Errorf("beyond needs a kernel that can count connections (sock_diag): run it on Linux (this is %s)",
		runtime.GOOS)
}

func conntrackRoom() (room int, tracking bool) { return 0, false }

func openFiles() (int, error) { return 0, errors.ErrUnsupported }

func readMemory() (memory, error) { return memory{}, errors.ErrUnsupported }

func resetOnClose(string, string, syscall.RawConn) error { return nil }
