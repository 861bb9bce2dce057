//go:build !linux

package dialer

import "net/netip"

// sourceState is for Linux.
func sourceState(netip.Addr) (why, fix string) { return "", "" }
