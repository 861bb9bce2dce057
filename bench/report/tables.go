package main

import (
	"fmt"
	"strconv"
	"strings"
)

// column is a contender: its name in the benchmarks and in the text. The first of a table is what the others are
// compared with.
type column struct{ name, title string }

var (
	allocColumns = []column{
		{"ephemera", "ephemera"},
		{"nextclear", "bitset.NextClear, mutex"},
		{"freelist", "free list"},
		{"map", "map"},
		{"k8s", "bit by bit"},
		{"model", "slow model"},
		{"gvisor", "gVisor"},
	}
	tupleColumns = []column{
		{"ephemera", "ephemera"},
		{"ephemera-any", "ephemera, no source"},
		{"rwmap", "map, RWMutex"},
		{"syncmap", "sync.Map"},
		{"xsync", "xsync.Map"},
		{"gvisor", "gVisor"},
	}
	dialColumns = []column{
		{"range", "ephemera"}, {"bind", "ephemera, bound ports"}, {"net", "net.Dialer"}, {"oneliner", "whole-range IP_LOCAL_PORT_RANGE"},
	}
)

var fills = []string{"0", "50", "90", "99", "99.9", "99.99"}

// caveat is what is known to be wrong with the figures in raw. It goes when they are measured anew without these faults.
const caveat = `To be measured again: gVisor is filled at random, which hides most of its cost when nearly full; "all: finding out" is unfair
to map and to bit by bit, which could count; and in Contains a write is an acquire and a release, so 10 % are 18 % of all
operations. The tuple tables are of six rounds, three of them on a busy machine.

`

// render writes RESULTS.md.
func render(all map[string]figures) string {
	var b strings.Builder
	config := all["alloc"].config
	fmt.Fprintf(&b, "# Results\n\nWritten by `go run ./bench/report` from [raw](raw): %s, %s cores (%s), %s, commit %s, %s.\n",
		config["kernel"], config["cores"], strings.TrimSpace(config["cpu"]), config["go"], config["commit"], config["date"])
	b.WriteString("Medians. In brackets how many times ephemera's a figure is: the machine is shared, so the ratios within a row count.\n\n")
	b.WriteString(caveat)
	b.WriteString("## Bars\n\n| what | bar | measured | |\n|---|---|---|---|\n")
	for _, bar := range bars(all) {
		b.WriteString(bar.row())
	}

	f := all["alloc"]
	for _, g := range []string{"1", "2"} {
		section(&b, "alloc: acquire + release of one of 64,512 ports, ns, goroutines: "+g,
			"go test -run='^$' -bench=. -benchtime=20ms ./bench/alloc", "held", allocColumns)
		for _, fill := range fills {
			row(&b, f, fill+" %", allocColumns, "ns/op", func(c string) string {
				return "AcquireRelease/impl=" + c + "/fill=" + fill + "/goroutines=" + g
			})
		}
		row(&b, f, "all: finding out", allocColumns, "ns/op", func(c string) string { return "Full/impl=" + c + "/goroutines=" + g })
	}
	b.WriteString("\n![acquire + release](plots/alloc.svg)\n")

	f = all["tuple"]
	section(&b, "tuple: acquire + release, ns", "go test -run='^$' -bench='Contains|AcquireRelease' -benchtime=20ms ./bench/tuple",
		"destinations, goroutines", tupleColumns)
	for _, n := range []string{"1", "1000", "1000000"} {
		for _, g := range []string{"1", "2"} {
			row(&b, f, n+", "+g, tupleColumns, "ns/op", func(c string) string {
				return "AcquireRelease/impl=" + c + "/destinations=" + n + "/goroutines=" + g
			})
		}
	}
	section(&b, "tuple: Contains with a share of writes, ns", "", "destinations, goroutines, writes", tupleColumns[:5])
	for _, n := range []string{"1", "1000", "1000000"} {
		for _, g := range []string{"1", "2"} {
			for _, w := range []string{"0", "10", "50"} {
				row(&b, f, n+", "+g+", "+w+" %", tupleColumns[:5], "ns/op", func(c string) string {
					return "Contains/impl=" + c + "/destinations=" + n + "/goroutines=" + g + "/writes=" + w
				})
			}
		}
	}
	f = all["memory"]
	section(&b, "tuple: live heap, bytes per tuple", "go test -run='^$' -bench=Memory -benchtime=1x ./bench/tuple", "one tuple to each of", tupleColumns)
	for _, family := range []string{"ipv4", "ipv6"} {
		row(&b, f, "1,000,000 destinations, "+family, tupleColumns, "B/tuple", func(c string) string {
			return "Memory/impl=" + c + "/family=" + family + "/shape=sparse"
		})
		row(&b, f, "64,512 ports of one destination, "+family, tupleColumns, "B/tuple", func(c string) string {
			return "Memory/impl=" + c + "/family=" + family + "/shape=dense"
		})
		row(&b, f, "the former, left when released, "+family, tupleColumns, "left-B/tuple", func(c string) string {
			return "Memory/impl=" + c + "/family=" + family + "/shape=sparse"
		})
	}
	b.WriteString("\n![memory](plots/memory.svg)\n")

	f = all["dial"]
	for _, unit := range []string{"p50", "p99"} {
		section(&b, "dial: socket to established on loopback, "+unit+", µs", "go run ./bench/dial", "of 16,000 ports held", dialColumns)
		for _, fill := range []string{"0", "50", "80", "90", "99", "99.9"} {
			row(&b, f.scaled(1000), fill+" %", dialColumns, unit+"-ns", func(c string) string { return "Dial/held=" + fill + "/impl=" + c })
		}
		row(&b, f.scaled(1000), "all: the error", dialColumns, unit+"-ns", func(c string) string { return "DialExhausted/impl=" + c })
	}
	b.WriteString("\n![the cliff](plots/dial.svg)\n")

	b.WriteString("\n## scale: one Pool that grows\n\n    go run ./bench/scale\n\n| holds | ns per acquire to get there | acquire + release there | Contains there | longest acquire, µs | live heap, B per tuple |\n|---|---|---|---|---|---|\n")
	for _, kind := range [][2]string{{"Full/tuples=", "full destinations, tuples: "}, {"SparseIPv4/destinations=", "IPv4 destinations of one tuple: "}, {"SparseIPv6/destinations=", "IPv6 destinations of one tuple: "}} {
		for n := 1_000_000; n <= 1_000_000_000; n *= 10 {
			name := kind[0] + strconv.Itoa(n)
			if all["scale"].values[name] == nil {
				continue
			}
			fmt.Fprintf(&b, "| %s%s |", kind[1], thousands(strconv.Itoa(n)))
			for _, unit := range []string{"ns/acquire", "ns/op", "ns/contains", "longest-us", "B/tuple"} {
				v, _ := all["scale"].median(name, unit)
				fmt.Fprintf(&b, " %s |", human(v))
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

func section(b *strings.Builder, title, command, first string, columns []column) {
	fmt.Fprintf(b, "\n## %s\n\n", title)
	if command != "" {
		fmt.Fprintf(b, "    %s\n\n", command)
	}
	fmt.Fprintf(b, "| %s |", first)
	for _, c := range columns {
		fmt.Fprintf(b, " %s |", c.title)
	}
	b.WriteString("\n|" + strings.Repeat("---|", len(columns)+1) + "\n")
}

// row writes the medians of what name returns for each column, and how many times the first one's each is.
func row(b *strings.Builder, f figures, label string, columns []column, unit string, name func(column string) string) {
	fmt.Fprintf(b, "| %s |", label)
	own, _ := f.median(name(columns[0].name), unit)
	for i, c := range columns {
		v, ok := f.median(name(c.name), unit)
		switch {
		case !ok:
			b.WriteString(" |")
		case i == 0 || own <= 0:
			fmt.Fprintf(b, " %s |", human(v))
		default:
			fmt.Fprintf(b, " %s (%s×) |", human(v), human(v/own))
		}
	}
	b.WriteString("\n")
}

// human writes three digits or more, with a comma at each thousand.
func human(v float64) string {
	switch {
	case v >= 100:
		return thousands(strconv.FormatFloat(v, 'f', 0, 64))
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func thousands(digits string) string {
	if len(digits) <= 3 {
		return digits
	}
	return thousands(digits[:len(digits)-3]) + "," + digits[len(digits)-3:]
}

// scaled returns f with all values divided.
func (f figures) scaled(by float64) figures {
	g := figures{f.config, map[string]map[string][]float64{}}
	for name, units := range f.values {
		g.values[name] = map[string][]float64{}
		for unit, values := range units {
			for _, v := range values {
				g.values[name][unit] = append(g.values[name][unit], v/by)
			}
		}
	}
	return g
}
