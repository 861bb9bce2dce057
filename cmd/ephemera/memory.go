package main

import (
	"fmt"

	"github.com/dustin/go-humanize"
)

// perEnd is what one end of a connection takes, the kernel's share and the process's, rounded up. A run that needs more
// than there is would have the kernel kill processes, and not only those of the run.
const perEnd = 5 << 10

// enoughMemory refuses a run that the available memory does not carry.
func enoughMemory(connections int, bothEnds bool, available int64) error {
	each := int64(perEnd)
	if bothEnds {
		each *= 2
	}
	if need := int64(connections) * each; need > available {
		return fmt.Errorf("%s connections take about %s of memory, and %s is available: -n %d would fit",
			comma(connections), humanize.IBytes(uint64(need)), humanize.IBytes(uint64(available)), available/each)
	}
	return nil
}
