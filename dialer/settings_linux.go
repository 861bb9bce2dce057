package dialer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

// sysctls is the directory of the settings. Its files show those of the reading thread's network namespace.
const sysctls = "/proc/sys/net/ipv4/"

// lookAtSettings reads the settings. For those that cannot be read, except the ports, it uses the kernel's defaults.
func lookAtSettings() *settings {
	s := &settings{timeWaitReuse: 2, reuseDelay: reuseDelay}
	if s.reserved, s.portsErr = reservedPorts(); s.portsErr == nil {
		s.kernels, s.portsErr = ephemeralRange()
		s.kernels = s.kernels.Difference(s.reserved)
	}
	can, err := kernelHas()
	if err != nil && s.portsErr == nil {
		s.portsErr = err
	}
	s.ranged, s.names, s.namespace = can.PortRange && can.Names, can.Names, can.Namespace
	if reuse, err := readNumber("tcp_tw_reuse"); err == nil {
		s.timeWaitReuse = reuse
	}
	if delay, err := readNumber("tcp_tw_reuse_delay"); err == nil {
		s.reuseDelay = time.Duration(delay) * time.Millisecond
	}
	nobody := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	_, _, err = sockdiag.Lookup(sockdiag.TCP, nobody, nobody)
	s.diagnoses = err == nil
	return s
}

// hostPorts returns the ports from which the kernel chooses.
func hostPorts() (alloc.Set, error) {
	reserved, err := reservedPorts()
	if err != nil {
		return alloc.Set{}, err
	}
	ports, err := ephemeralRange()
	return ports.Difference(reserved), err
}

// ephemeralRange reads net.ipv4.ip_local_port_range, which IPv6 uses too.
func ephemeralRange() (alloc.Set, error) {
	text, err := readSysctl("ip_local_port_range")
	if err != nil {
		return alloc.Set{}, fmt.Errorf("reading the ephemeral port range: %w", err)
	}
	var first, last uint16
	if _, err := fmt.Sscan(text, &first, &last); err != nil {
		return alloc.Set{}, fmt.Errorf("%sip_local_port_range is not two ports: %w: %q", sysctls, err, text)
	}
	return alloc.RangeSet(first, last), nil
}

// lastReserved caches the reserved ports, because a list of thousands takes milliseconds to parse.
var lastReserved struct {
	sync.Mutex
	text string
	set  alloc.Set
}

// reservedPorts returns the ports that the administrator reserves for programs that ask for them by number.
func reservedPorts() (alloc.Set, error) {
	text, err := readSysctl("ip_local_reserved_ports")
	if err != nil {
		return alloc.Set{}, fmt.Errorf("reading the reserved ports: %w", err)
	}
	lastReserved.Lock()
	defer lastReserved.Unlock()
	if text == lastReserved.text {
		return lastReserved.set, nil
	}
	set, err := alloc.ParseSet(text)
	if err != nil {
		return alloc.Set{}, fmt.Errorf("%sip_local_reserved_ports: %w", sysctls, err)
	}
	lastReserved.text, lastReserved.set = text, set
	return set, nil
}

func readNumber(name string) (int, error) {
	text, err := readSysctl(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// longestSysctl is enough for the longest list in ip_local_reserved_ports, 32,768 single ports.
const longestSysctl = 256 << 10

// sysctlBuffer is the buffer of readSysctl.
var sysctlBuffer struct {
	sync.Mutex
	b [longestSysctl]byte
}

// readSysctl reads a value with one read(2). The kernel ends a list after the first read, however short that was
// (proc_do_large_bitmap in kernel/sysctl.c), and os.ReadFile begins with 512 bytes.
func readSysctl(name string) (string, error) {
	f, err := os.Open(sysctls + name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sysctlBuffer.Lock()
	defer sysctlBuffer.Unlock()
	n, err := f.Read(sysctlBuffer.b[:])
	switch {
	case errors.Is(err, io.EOF): // an empty list may have no byte
	case err != nil:
		return "", err
	case n == longestSysctl:
		return "", &fs.PathError{Op: "read", Path: sysctls + name, Err: io.ErrShortBuffer}
	}
	return strings.TrimSpace(string(sysctlBuffer.b[:n])), nil
}
