//go:build !linux && !darwin && !freebsd

package dialer

import "github.com/ephemera-go/ephemera/alloc"

// hostPorts returns the dynamic ports of RFC 6335, which Windows uses unless netsh told it otherwise.
func hostPorts() (alloc.Set, error) { return dynamicPorts(), nil }
