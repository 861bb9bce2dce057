//go:build !linux

package sockdiag

import (
	"errors"
	"fmt"
	"runtime"
)

func unsupported() error {
	return fmt.Errorf("only Linux can be asked about its sockets: %w: this is %s", errors.ErrUnsupported, runtime.GOOS)
}

func walk(Query, []Family, func(Socket) bool, *bool) error { return unsupported() }

func find(Exact) (Socket, bool, error) { return Socket{}, false, unsupported() }

// CloseIdle is for Linux.
func CloseIdle() {}
