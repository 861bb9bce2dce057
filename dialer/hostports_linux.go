package dialer

import (
	"fmt"
	"os"
	"strings"

	"github.com/ephemera-go/ephemera/alloc"
)

// sysctls is where Linux has them: those of the network namespace of the thread that reads.
const sysctls = "/proc/sys/net/ipv4/"

// hostPorts reads net.ipv4.ip_local_port_range, which holds for IPv6 too, and net.ipv4.ip_local_reserved_ports.
func hostPorts() (alloc.Set, error) {
	text, err := os.ReadFile(sysctls + "ip_local_port_range")
	if err != nil {
		return alloc.Set{}, fmt.Errorf("reading the ephemeral port range: %w", err)
	}
	var first, last uint16
	if _, err := fmt.Sscan(string(text), &first, &last); err != nil {
		return alloc.Set{}, fmt.Errorf("%sip_local_port_range: %q is not two ports: %w", sysctls, text, err)
	}
	reserved, err := reservedPorts()
	if err != nil {
		return alloc.Set{}, err
	}
	return alloc.RangeSet(first, last).Difference(reserved), nil
}

// reservedPorts returns the ports that the administrator has set aside, for those who ask for them by number.
func reservedPorts() (alloc.Set, error) {
	text, err := os.ReadFile(sysctls + "ip_local_reserved_ports")
	if err != nil {
		return alloc.Set{}, fmt.Errorf("reading the reserved ports: %w", err)
	}
	reserved, err := alloc.ParseSet(strings.TrimSpace(string(text)))
	if err != nil {
		return alloc.Set{}, fmt.Errorf("%sip_local_reserved_ports: %w", sysctls, err)
	}
	return reserved, nil
}
