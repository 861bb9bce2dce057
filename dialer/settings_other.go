//go:build !linux

package dialer

import "github.com/ephemera-go/ephemera/alloc"

// lookAtSettings returns the ports from which the system chooses. No lane needs the other settings here.
func lookAtSettings() *settings {
	s := &settings{timeWaitReuse: 0, reuseDelay: reuseDelay}
	s.kernels, s.portsErr = hostPorts()
	return s
}

// reservedPorts returns the empty set: only Linux has reserved ports.
func reservedPorts() (alloc.Set, error) { return alloc.Set{}, nil }
