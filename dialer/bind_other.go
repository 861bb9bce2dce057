//go:build !linux

package dialer

import (
	"errors"
	"net/netip"
)

// bindSource is for Linux.
func bindSource(fd int, ip netip.Addr) error { return errors.ErrUnsupported }
