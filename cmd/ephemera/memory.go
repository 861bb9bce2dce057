package main

import (
	"fmt"

	"github.com/dustin/go-humanize"
)

// memory is the memory of the host, in bytes.
type memory struct {
	available int64 // what programs can still get
	inUse     int64 // what processes and the kernel's objects take, including sockets, but not file caches
}

// perEnd is what one end of a connection takes in the kernel and the process, in bytes, rounded up. If a run took more
// than there is, the kernel would kill processes, and not only those of the run.
const perEnd = 7 << 10

// enoughMemory returns an error if the available memory, in bytes, is too small for a run.
func enoughMemory(connections int, bothEnds bool, available int64) error {
	each := int64(perEnd)
	if bothEnds {
		each *= 2
	}
	if need := int64(connections) * each; need > available {
		return fmt.Errorf("too little memory: ask for fewer connections (%s take about %s, and %s is available: "+
			"-n %d would fit)", comma(connections), humanize.IBytes(uint64(need)), humanize.IBytes(uint64(available)),
			available/each)
	}
	return nil
}
