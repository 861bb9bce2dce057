package main

import (
	"bufio"
	"fmt"
	"os"
)

// memAvailable returns MemAvailable of /proc/meminfo in bytes: what programs could still have, the kernel's own use deducted.
func memAvailable() (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("cannot measure memory: %w", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kib int64
		if _, err := fmt.Sscanf(s.Text(), "MemAvailable: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("cannot measure memory: no MemAvailable in /proc/meminfo")
}
