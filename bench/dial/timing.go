//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// timing is the time of each dial, and the CPU time of all of them.
type timing struct {
	Dials []time.Duration
	CPU   time.Duration
}

func (t *timing) add(u timing) {
	t.Dials = append(t.Dials, u.Dials...)
	t.CPU += u.CPU
}

// print prints the median and the 99th percentile of the time, and the mean CPU time, in the format of Go benchmarks.
func (t *timing) print(out io.Writer, name string) error {
	slices.Sort(t.Dials)
	n := len(t.Dials)
	_, err := fmt.Fprintf(out, "%s \t%d\t%d p50-ns\t%d p99-ns\t%d cpu-ns\n",
		name, n, t.Dials[n/2], t.Dials[n*99/100], t.CPU/time.Duration(n))
	return err
}
