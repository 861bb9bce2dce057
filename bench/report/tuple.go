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

// tupleRows calls f for every number of destinations and goroutines.
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

// containsRows are lookups of which a share, in per cent, is a write instead.
func containsRows() []row {
	return tupleRows(func(label, params string) []row {
		var rows []row
		for _, writes := range []string{"0", "10", "50"} {
			rows = append(rows, row{label + ", " + writes + " % writes", "Contains/impl=*/" + params + "/writes=" + writes, "ns/op"})
		}
		return rows
	})
}

func tupleTables(f figures) []table {
	return []table{
		compare(f, "acquire + release, ns", "over", tupleColumns, acquireReleaseRows()...),
		compare(f, "Contains, a share of the operations an acquire or a release instead, ns", "over", tupleColumns, containsRows()...),
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

// fastest is the bar that no peer is faster: the ratio to the one that is fastest by its median.
func fastest(f figures, what string, r row) bar {
	what = fmt.Sprintf("%s over %s ÷ the fastest peer", what, r.label)
	b := atMost(what, 1, nil)
	for _, c := range tupleColumns {
		if c.aside || c.name == "ephemera" || c.name == "ephemera-any" {
			continue
		}
		ratios := f.ratios(r.unit, of("ephemera", r.name), of(c.name, r.name))
		if len(ratios) > 0 && !(median(ratios) <= median(b.rounds)) { // also if there is none yet
			b = atMost(what+", "+c.title, 1, ratios)
		}
	}
	return b
}
