//go:build linux

package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/ephemera-go/ephemera/alloc"
)

// cell is one situation. Each of its contenders has a turn in it.
type cell struct {
	Network   string // lab.Loopback or lab.Veth
	Reuse     int    // net.ipv4.tcp_tw_reuse
	Upstreams int    // destinations
	Source    bool   // whether the dials name their source address
}

// name returns the name of a contender in a cell, as in the output.
func (c cell) name(contender string, ports alloc.Set) string {
	source := "no"
	if c.Source {
		source = "yes"
	}
	return fmt.Sprintf("BenchmarkChurn/impl=%s/net=%s/reuse=%d/upstreams=%d/source=%s/ports=%d",
		contender, c.Network, c.Reuse, c.Upstreams, source, ports.Len())
}

// matrix returns a cell for every combination of the items of the lists, which are separated by commas.
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
						return nil, fmt.Errorf("-source: use no, yes or both with a comma (%q)", source)
					}
					cells = append(cells, cell{network, r, u, s == "yes"})
				}
			}
		}
	}
	return cells, nil
}

// numbers parses a list of numbers, each from first to last, both inclusive.
func numbers(name, list string, first, last int) ([]int, error) {
	var all []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < first || n > last {
			return nil, fmt.Errorf("%s: use numbers from %d to %d, separated by commas (%q)", name, first, last, list)
		}
		all = append(all, n)
	}
	return all, nil
}
