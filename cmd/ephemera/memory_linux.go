package main

import (
	"bufio"
	"fmt"
	"os"
)

// readMemory reads /proc/meminfo. The change of MemAvailable does not show what a run takes, because the kernel needs
// seconds to get back what an earlier run freed. By it, a second run seemed to take half as much as the first.
func readMemory() (m memory, err error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return m, fmt.Errorf("cannot measure memory: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var name string
		var kib int64
		if _, err := fmt.Sscan(lines.Text(), &name, &kib); err != nil {
			continue
		}
		switch name {
		case "MemAvailable:":
			m.available = kib << 10
		case "AnonPages:", "Slab:", "KernelStack:", "PageTables:", "Percpu:":
			m.inUse += kib << 10
		}
	}
	return m, lines.Err()
}
