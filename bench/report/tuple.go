package main

import "fmt"

// tuple: 4-tuples. A Go benchmark of tuple.Pool beside maps that hold tuples.
var tuplePart = part{
	name:    "tuple",
	command: "go test -run='^$' -bench='Contains|AcquireRelease' -benchtime=20ms ./bench/tuple",
	build:   []string{"test", "-c", "./bench/tuple"},
	round:   runs("-test.run=^$", "-test.bench=Contains|AcquireRelease", "-test.benchtime=20ms"),
	rounds:  10,
	bars:    tupleBars,
	tables:  tupleTables,
}

var tupleColumns = []column{
	{name: "ephemera", title: "ephemera"},
	{name: "ephemera-any", title: "ephemera, no source"},
	{name: "rwmap", title: "map, RWMutex"},
	{name: "shardmap", title: "sharded map"},
	{name: "syncmap", title: "sync.Map"},
	{name: "xsync", title: "xsync.Map"},
	{name: "gvisor", title: "gVisor"},
	{name: "none", title: "the empty loop", aside: true},
}

// tupleRows returns the rows of f for every number of destinations and goroutines.
func tupleRows(f func(label, params string) []row) []row {
	var rows []row
	for _, destinations := range []int{1, 1000, 1_000_000} {
		for _, goroutines := range []int{1, 2} {
			rows = append(rows, f(
				plural(destinations, "destination")+", "+plural(goroutines, "goroutine"),
				fmt.Sprintf("destinations=%d/goroutines=%d", destinations, goroutines),
			)...)
		}
	}
	return rows
}

func acquireReleaseRows() []row {
	return tupleRows(func(label, params string) []row {
		return []row{{label, "AcquireRelease/impl=*/" + params, "ns/op"}}
	})
}

// containsRows are lookups. A share of the operations, in percent, is writes instead.
func containsRows() []row {
	return tupleRows(func(label, params string) []row {
		var rows []row
		for _, writes := range []string{"0", "10", "50"} {
			name := "Contains/impl=*/" + params + "/writes=" + writes
			rows = append(rows, row{label + ", " + writes + " % writes", name, "ns/op"})
		}
		return rows
	})
}

func tupleTables(f figures) []table {
	return []table{
		compare(f, "acquire + release, ns", "over", tupleColumns, acquireReleaseRows()...),
		compare(f, "Contains; a write is an acquire or a release instead; ns", "over", tupleColumns, containsRows()...),
	}
}

func tupleBars(f figures) []bar {
	var bars []bar
	for _, r := range acquireReleaseRows() {
		bars = append(bars, fastest(f, "tuple: acquire + release", r))
	}
	for _, r := range containsRows() {
		bars = append(bars, fastest(f, "tuple: Contains", r))
	}
	return bars
}

// fastest returns the bar whose target is that no contender is faster. It has the ratios to the contender that is
// fastest by its median.
func fastest(f figures, what string, r row) bar {
	what = fmt.Sprintf("%s over %s ÷ the fastest other", what, r.label)
	b := atMost(what, 1, nil)
	for _, c := range tupleColumns {
		if c.aside || c.name == "ephemera" || c.name == "ephemera-any" {
			continue
		}
		ratios := f.ratios(r.unit, of("ephemera", r.name), of(c.name, r.name))
		if len(ratios) > 0 && !(median(ratios) <= median(b.rounds)) { // also true if there is none yet
			b = atMost(what+", "+c.title, 1, ratios)
		}
	}
	return b
}
