package main

import "slices"

// alloc: port numbers. A Go benchmark of alloc.Ports beside other ways to find a free port of 64,512.
var allocPart = part{
	name:    "alloc",
	command: "go test -run='^$' -bench=. -benchtime=20ms ./bench/alloc",
	build:   []string{"test", "-c", "./bench/alloc"},
	round:   runs("-test.run=^$", "-test.bench=.", "-test.benchtime=20ms"),
	rounds:  10,
	bars:    allocBars,
	tables:  allocTables,
	charts:  allocCharts,
}

var allocColumns = []column{
	{name: "ephemera", title: "ephemera"},
	{name: "nextclear", title: "bitset.NextClear, mutex"},
	{name: "freelist", title: "free list"},
	{name: "map", title: "map"},
	{name: "k8s", title: "bit by bit"},
	{name: "gvisor", title: "gVisor"},
	{name: "model", title: "slow model"},
	{name: "none", title: "the empty loop", aside: true},
}

// allocFills are the shares of the ports that are in use, in percent.
var allocFills = []string{"0", "50", "90", "99", "99.9", "99.99"}

// allocRows are acquire + release at each fill. With order "own" the contender picked the ports in use, with "random"
// they are random.
func allocRows(order, goroutines string) []row {
	var rows []row
	for _, fill := range allocFills {
		name := "AcquireRelease/impl=*/fill=" + fill + "/order=" + order + "/goroutines=" + goroutines
		rows = append(rows, row{fill + " %", name, "ns/op"})
	}
	return rows
}

func allocTables(f figures) []table {
	const title, first = "acquire + release of one of 64,512 ports, ns; ", "in use"
	full := func(goroutines string) row {
		return row{"all: the answer", "Full/impl=*/goroutines=" + goroutines, "ns/op"}
	}
	return []table{
		compare(f, title+"each contender picked the ports in use; 1 goroutine", first, allocColumns,
			append(allocRows("own", "1"), full("1"))...),
		compare(f, title+"each contender picked the ports in use; 2 goroutines", first, allocColumns,
			append(allocRows("own", "2"), full("2"))...),
		compare(f, title+"the ports in use are random; 1 goroutine", first, allocColumns, allocRows("random", "1")...),
	}
}

func allocBars(f figures) []bar {
	ratios := func(r row, over, under string) []float64 {
		return f.ratios(r.unit, of(over, r.name), of(under, r.name))
	}
	var bars []bar
	var own [][]float64
	for _, order := range []string{"own", "random"} {
		suffix := " %"
		if order == "random" {
			suffix += ", random ports in use"
		}
		for i, r := range allocRows(order, "1") {
			bound := 1.5
			if slices.Index(allocFills, "99") <= i {
				bound = 1
			}
			what := "alloc ÷ NextClear at " + allocFills[i] + suffix
			bars = append(bars, atMost(what, bound, ratios(r, "ephemera", "nextclear")))
			if order == "own" {
				own = append(own, f.values[of("ephemera", r.name)][r.unit])
			}
		}
	}
	flat := perRound(func(v []float64) float64 { return slices.Max(v) / slices.Min(v) }, own...)
	rows := allocRows("own", "1")
	return append(
		bars,
		atMost("alloc: the slowest fill ÷ the fastest", 1.5, flat),
		atLeast("alloc: gVisor ÷ ephemera at 0 %", 20, ratios(rows[0], "gvisor", "ephemera")),
		atLeast("alloc: gVisor ÷ ephemera at 99.9 %", 100_000,
			ratios(rows[slices.Index(allocFills, "99.9")], "gvisor", "ephemera")),
	)
}

// allocCharts leaves out the slow model, which is off the scale.
func allocCharts(f figures) ([]chart, error) {
	columns := slices.DeleteFunc(slices.Clone(allocColumns), func(c column) bool { return c.name == "model" })
	return lines("alloc.svg", "Acquire + release of one of 64,512 ports", "ports in use", "ns", f, columns,
		allocRows("own", "1"))
}
