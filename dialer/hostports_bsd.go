//go:build darwin || freebsd

package dialer

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/alloc"
)

// hostPorts reads net.inet.ip.portrange.first and last.
func hostPorts() (alloc.Set, error) {
	var ends [2]uint16
	for i, name := range []string{"net.inet.ip.portrange.first", "net.inet.ip.portrange.last"} {
		port, err := unix.SysctlUint32(name)
		if err != nil {
			return alloc.Set{}, fmt.Errorf("reading %s: %w", name, err)
		}
		if port > 65535 {
			return alloc.Set{}, fmt.Errorf("%s: %d is not a port", name, port)
		}
		ends[i] = uint16(port)
	}
	return alloc.RangeSet(min(ends[0], ends[1]), max(ends[0], ends[1])), nil
}
