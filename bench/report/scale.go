package main

import (
	"strconv"
	"strings"
)

// scale: one tuple.Pool that grows to a billion tuples. It has no other contenders and takes minutes, so it has one
// round.
var scalePart = part{
	name:    "scale",
	command: "go run ./bench/scale",
	build:   []string{"build", "./bench/scale"},
	round:   runs(),
	rounds:  1,
	tables:  scaleTables,
}

// scaleColumns are the columns of the table, with the units that the command prints.
var scaleColumns = []struct{ unit, title string }{
	{"ns/acquire", "acquire on the way, ns"},
	{"p99.99-us", "p99.99, µs"},
	{"longest-us", "longest, µs"},
	{"longest-cpu-us", "longest on a processor, µs"},
	{"over-1ms", "longer than 1 ms"},
	{"over-1ms-cpu", "longer than 1 ms on a processor"},
	{"ns/op", "acquire + release there, ns"},
	{"ns/contains", "Contains there, ns"},
	{"B/tuple", "live heap, B per tuple"},
}

func scaleTables(f figures) []table {
	t := table{title: "one Pool that grows", header: []string{"holds"}}
	for _, c := range scaleColumns {
		t.header = append(t.header, c.title)
	}
	for _, kind := range []struct{ name, title string }{
		{"Full/tuples=", "tuples towards full destinations"},
		{"SparseIPv4/destinations=", "IPv4 destinations of one tuple"},
		{"SparseIPv6/destinations=", "IPv6 destinations of one tuple"},
	} {
		for n := 1_000_000; n <= 1_000_000_000; n *= 10 {
			name := kind.name + strconv.Itoa(n)
			if f.values[name] == nil {
				continue
			}
			cells := []string{thousands(strconv.Itoa(n)) + " " + kind.title}
			for _, c := range scaleColumns {
				cell := human(f.median(name, c.unit))
				if strings.HasPrefix(c.unit, "over-") { // a count
					cell, _, _ = strings.Cut(cell, ".")
				}
				cells = append(cells, cell)
			}
			t.rows = append(t.rows, cells)
		}
	}
	return []table{t}
}
