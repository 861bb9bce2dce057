//go:build !linux

package dialer

import "github.com/ephemera-go/ephemera/alloc"

// lookAtSettings returns what no lane asks for here, and the ports that the system chooses among.
func lookAtSettings() *settings {
	s := &settings{timeWaitReuse: 0, reuseDelay: reuseDelay}
	s.kernels, s.portsErr = hostPorts()
	return s
}

// reservedPorts returns the empty set: only Linux has them.
func reservedPorts() (alloc.Set, error) { return alloc.Set{}, nil }
