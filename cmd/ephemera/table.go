package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// A result is what a run found out.
type result struct {
	kernel tally
	source netip.Addr
	to     []netip.AddrPort
	took   time.Duration
	memory int64 // bytes; not positive if the rest of the host freed more meanwhile
	echoed bool
}

// table returns the result as a text of at most 80 columns.
func (r result) table() string {
	var t strings.Builder
	row := func(label, figure, note string) {
		t.WriteString(strings.TrimRight(fmt.Sprintf("%-24s%12s  %s", label, figure, note), " ") + "\n")
	}
	alive := "ESTABLISHED in the kernel; no byte sent"
	if r.echoed {
		alive = "ESTABLISHED in the kernel; each echoed"
	}
	row("connections", comma(r.kernel.connections), alive)
	row("source addresses", "1", r.source.String())
	row("distinct local ports", comma(r.kernel.ports), "of the 65,535 of one address")
	row("destinations", comma(len(r.to)), someOf(r.to))
	row("most on one local port", comma(r.kernel.most),
		strings.TrimLeft(count(r.kernel.most, "connection"), "0123456789, "))
	row("seconds", fmt.Sprintf("%.2f", r.took.Seconds()), "until the last was open")
	row("connections/s", comma(int(float64(r.kernel.connections)/r.took.Seconds())), "")
	if r.memory > 0 && r.kernel.connections > 0 {
		row("memory", humanize.IBytes(uint64(r.memory)),
			comma(int(r.memory/int64(r.kernel.connections)))+" bytes each: both ends and the kernel")
	}
	return t.String()
}

// someOf returns as many destinations as fit into a note.
func someOf(to []netip.AddrPort) string {
	const room = 38
	var names string
	for _, dst := range to {
		if names != "" && len(names)+1+len(dst.String()) > room {
			return names + " …"
		}
		names = strings.TrimLeft(names+" "+dst.String(), " ")
	}
	return names
}
