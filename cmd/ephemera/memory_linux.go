package main

import (
	"bufio"
	"fmt"
	"os"
)

// readMemory reads /proc/meminfo. What a run takes is not what MemAvailable loses: the kernel gives back what a run
// before it freed only in the course of seconds, and a second run would seem to take half of the first.
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
