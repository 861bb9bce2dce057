package main

import "slices"

// memory: the live heap of a tuple.Pool beside that of maps. One round is enough, because runs hardly differ.
var memoryPart = part{
	name:    "memory",
	command: "go test -run='^$' -bench=Memory -benchtime=1x ./bench/tuple",
	build:   []string{"test", "-c", "./bench/tuple"},
	round:   runs("-test.run=^$", "-test.bench=Memory", "-test.benchtime=1x"),
	rounds:  1,
	bars:    memoryBars,
	tables:  memoryTables,
	charts:  memoryCharts,
}

func memoryTables(f figures) []table {
	var rows []row
	for _, family := range []string{"ipv4", "ipv6"} {
		name := "Memory/impl=*/family=" + family + "/shape="
		rows = append(
			rows,
			row{"1,000,000 destinations, " + family, name + "sparse", "B/tuple"},
			row{"64,512 ports of one destination, " + family, name + "dense", "B/tuple"},
			row{"1,000,000 destinations, " + family + ", left after release", name + "sparse", "left-B/tuple"},
		)
	}
	return []table{compare(f, "live heap, bytes per tuple", "one tuple for each of", tupleColumns, rows...)}
}

func memoryBars(f figures) []bar {
	bytes := func(family, shape string) []float64 {
		return f.values["Memory/impl=ephemera/family="+family+"/shape="+shape]["B/tuple"]
	}
	bits := perRound(func(v []float64) float64 { return 8 * v[0] }, bytes("ipv4", "dense"))
	return []bar{
		atMost("memory: bytes per destination of one tuple, ipv4", 96, bytes("ipv4", "sparse")),
		atMost("memory: bytes per destination of one tuple, ipv6", 128, bytes("ipv6", "sparse")),
		atMost("memory: bits per tuple of a full destination", 1.3, bits),
	}
}

// memoryCharts leaves out ephemera without a source, which takes as much as with one.
func memoryCharts(f figures) ([]chart, error) {
	columns := slices.DeleteFunc(slices.Clone(tupleColumns), func(c column) bool { return c.name == "ephemera-any" })
	return groups("memory.svg", "Live heap per destination of one tuple, of 1,000,000", "bytes", f, columns, []row{
		{"IPv4", "Memory/impl=*/family=ipv4/shape=sparse", "B/tuple"},
		{"IPv6", "Memory/impl=*/family=ipv6/shape=sparse", "B/tuple"},
	})
}
