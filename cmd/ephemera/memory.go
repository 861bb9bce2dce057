package main

import (
	"fmt"

	"github.com/dustin/go-humanize"
)

// memory is that of the host, in bytes.
type memory struct {
	available int64 // what programs could still have
	inUse     int64 // what processes and the kernel's objects take, sockets among them; caches of files do not count
}

// perEnd is what one end of a connection takes, the kernel's share and the process's, rounded up. A run that needs more
// than there is would have the kernel kill processes, and not only those of the run.
const perEnd = 7 << 10

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
