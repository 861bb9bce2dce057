//go:build linux

package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"

	"github.com/ephemera-go/ephemera/bench/internal/lab"
	"github.com/ephemera-go/ephemera/internal/netns"
)

// compare gives each contender a turn in each round, in a new order each time. It prints the results in the format of
// Go benchmarks, a line a round. The first round warms up.
//
// Each contender has its own network namespace, server process and client process, because a Tracker hears of every
// socket in its network namespace.
func compare(out io.Writer, network string, rounds, dials int) error {
	processes := make([]*lab.Process, len(contenders))
	defer func() {
		for _, p := range processes {
			if p != nil {
				p.Stop()
			}
		}
	}()
	for i, c := range contenders {
		p, err := lab.Start(netns.Private(), contenderRole, c.protocol, c.name, network)
		if err != nil {
			return fmt.Errorf("cannot make a network namespace (without privilege it needs a user namespace): %w", err)
		}
		processes[i] = p
	}
	costs := make([][]cost, len(contenders))
	for round := range rounds + 1 {
		for _, i := range rand.Perm(len(contenders)) {
			var got cost
			if err := processes[i].Ask(turn{dials}, &got); err != nil {
				return fmt.Errorf("the process of a contender failed, see its error above: %w (%s)",
					err, contenders[i].row())
			}
			if round > 0 {
				costs[i] = append(costs[i], got)
			}
		}
	}
	return print(out, dials, costs)
}

// print prints the rounds of each contender, and then the medians of the ratios.
func print(out io.Writer, dials int, costs [][]cost) error {
	for i, c := range contenders {
		for _, r := range costs[i] {
			if _, err := fmt.Fprintf(out, "%s \t%d\t%d ns/op\t%d p50-ns\t%d cpu-ns\t%.0f B/op\t%.2f allocs/op\n",
				c.row(), dials, r.Wall, r.P50, r.CPU, r.Bytes, r.Mallocs); err != nil {
				return err
			}
		}
	}
	for i, c := range contenders {
		if c.against == "" {
			continue
		}
		base := costs[slices.Index(contenders, contender{protocol: c.protocol, name: c.against})]
		if _, err := fmt.Fprintf(out, "%s ÷ %s, %s: mean %.3f, p50 %.3f, CPU %.3f, bytes %.2f, mallocs %.2f\n",
			c.name, c.against, c.protocol,
			ratio(costs[i], base, func(c cost) float64 { return float64(c.Wall) }),
			ratio(costs[i], base, func(c cost) float64 { return float64(c.P50) }),
			ratio(costs[i], base, func(c cost) float64 { return float64(c.CPU) }),
			ratio(costs[i], base, func(c cost) float64 { return c.Bytes }),
			ratio(costs[i], base, func(c cost) float64 { return c.Mallocs })); err != nil {
			return err
		}
	}
	return nil
}

// ratio returns the median over the rounds of one contender's figure divided by another's.
func ratio(over, under []cost, figure func(cost) float64) float64 {
	var all []float64
	for i := range over {
		all = append(all, figure(over[i])/figure(under[i]))
	}
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}
