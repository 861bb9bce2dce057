//go:build linux

package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/ephemera-go/ephemera/alloc"
)

// cell is one situation. Every contender that knows it has a turn in it.
type cell struct {
	Network   string // lab.Loopback or lab.Veth
	Reuse     int    // net.ipv4.tcp_tw_reuse
	Upstreams int    // destinations
	Source    bool   // whether the dials name their source address
}

// name is how the output names a contender in a cell.
func (c cell) name(contender string, ports alloc.Set) string {
	source := "no"
	if c.Source {
		source = "yes"
	}
	return fmt.Sprintf("BenchmarkChurn/impl=%s/net=%s/reuse=%d/upstreams=%d/source=%s/ports=%d",
		contender, c.Network, c.Reuse, c.Upstreams, source, ports.Len())
}

// matrix returns the cells that the lists, with commas, span.
func matrix(networks, reuse, upstreams, source string) ([]cell, error) {
	reuses, err1 := numbers("-reuse", reuse, 0, 2)
	ups, err2 := numbers("-upstreams", upstreams, 1, 200)
	if err := cmp.Or(err1, err2); err != nil {
		return nil, err
	}
	var cells []cell
	for network := range strings.SplitSeq(networks, ",") {
		for _, r := range reuses {
			for _, u := range ups {
				for s := range strings.SplitSeq(source, ",") {
					if s != "no" && s != "yes" {
						return nil, fmt.Errorf("-source %s: it takes no, yes or both with a comma", source)
					}
					cells = append(cells, cell{network, r, u, s == "yes"})
				}
			}
		}
	}
	return cells, nil
}

// numbers parses a list of numbers from first to last.
func numbers(name, list string, first, last int) ([]int, error) {
	var all []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < first || n > last {
			return nil, fmt.Errorf("%s %s: it takes numbers from %d to %d, with commas", name, list, first, last)
		}
		all = append(all, n)
	}
	return all, nil
}
