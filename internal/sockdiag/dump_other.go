//go:build !linux

package sockdiag

import (
	"errors"
	"fmt"
	"runtime"
)

func unsupported() error {
	return fmt.Errorf("sock_diag needs Linux: %w on %s", errors.ErrUnsupported, runtime.GOOS)
}

func walk(Query, []Family, func(Socket) bool, *bool) error { return unsupported() }

func find(Exact) (Socket, bool, error) { return Socket{}, false, unsupported() }

// CloseIdle does nothing: only Linux has netlink sockets.
func CloseIdle() {}
