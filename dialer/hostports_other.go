//go:build !linux && !darwin && !freebsd

package dialer

import "github.com/ephemera-go/ephemera/alloc"

// hostPorts returns the dynamic ports of RFC 6335. Windows uses them unless netsh changed that.
func hostPorts() (alloc.Set, error) { return dynamicPorts(), nil }
