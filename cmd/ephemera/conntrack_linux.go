package main

import (
	"fmt"
	"os"
)

// conntrackRoom returns how many more connections the kernel's connection tracker can take, and whether it tracks here.
// It does if iptables or nftables rules ask for it. Then each connection takes one entry. When none is left, the kernel
// drops packets, and programs see no error.
func conntrackRoom() (room int, tracking bool) {
	tracked, ok := readNumber("/proc/sys/net/netfilter/nf_conntrack_count")
	if !ok || tracked == 0 {
		return 0, false
	}
	limit, ok := readNumber("/proc/sys/net/netfilter/nf_conntrack_max")
	return max(0, limit-tracked), ok && limit > 0
}

func readNumber(file string) (n int, ok bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	_, err = fmt.Sscan(string(text), &n)
	return n, err == nil
}
