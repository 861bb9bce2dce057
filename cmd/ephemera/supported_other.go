//go:build !linux

package main

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
)

// The command asks the kernel for the proof, and only Linux can be asked (sock_diag).

func supported() error {
	return fmt.Errorf("beyond needs Linux, whose kernel can count its connections (sock_diag); this is %s", runtime.GOOS)
}

func conntrackRoom() (room int, tracking bool) { return 0, false }

func openFiles() (int, error) { return 0, errors.ErrUnsupported }

func readMemory() (memory, error) { return memory{}, errors.ErrUnsupported }

func resetOnClose(string, string, syscall.RawConn) error { return nil }
