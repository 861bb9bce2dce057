//go:build linux

package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/ephemera-go/ephemera/bench/internal/lab"
	"github.com/ephemera-go/ephemera/internal/netns"
)

// rest is the time between two turns. The kernel needs it to remove the last network namespace and its sockets in
// TIME_WAIT, after the processes of the turn have ended.
const rest = 300 * time.Millisecond

// compare has the contenders take turns in each cell, and prints the results in the format of Go benchmarks.
//
// Each turn has its own network namespace, server process and client process, so it does not meet TIME_WAIT or ports
// that an earlier turn left. In a round the contenders of a cell follow each other, in a new order each time.
func compare(out io.Writer, cells []cell, rounds int, t turn) error {
	for range rounds {
		for _, c := range cells {
			t.Cell = c
			if err := t.round(out); err != nil {
				return err
			}
		}
	}
	return nil
}

// round gives each contender of the cell a turn.
func (t turn) round(out io.Writer) error {
	names := t.Cell.contenders()
	results := make([]result, len(names))
	for _, i := range rand.Perm(len(names)) {
		t.Contender = names[i]
		p, err := lab.Start(netns.Private(), clientRole)
		if err != nil {
			return fmt.Errorf("cannot make a network namespace (without privilege it needs a user namespace): %w", err)
		}
		err = p.Ask(t, &results[i])
		p.Stop()
		if err != nil {
			return fmt.Errorf("the process of a contender failed, see its error above: %w (%s)", err, t.Contender)
		}
		time.Sleep(rest)
	}
	for i, r := range results {
		if err := r.print(out, t.Cell.name(names[i], t.Ports), results[0], t.For); err != nil {
			return err
		}
	}
	return nil
}

// print prints the number of dials that succeeded and the figures. of-net is the rate as a multiple of the first
// contender's.
func (r result) print(out io.Writer, name string, net result, length time.Duration) error {
	rate := func(n int) float64 { return float64(n) / length.Seconds() }
	line := fmt.Sprintf("%s \t%d\t%.1f dials/s\t%d failed\t%.1f failed/s",
		name, r.OK, rate(r.OK), r.Failed, rate(r.Failed))
	if r.OK > 0 {
		line += fmt.Sprintf("\t%d p50-ns\t%d p99-ns\t%d cpu-ns", r.P50, r.P99, r.CPU/time.Duration(r.OK))
	}
	if net.OK > 0 {
		line += fmt.Sprintf("\t%.3f of-net", float64(r.OK)/float64(net.OK))
	}
	_, err := fmt.Fprintln(out, line)
	return err
}
