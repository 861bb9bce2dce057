package main

import "fmt"

// cost: what a dial, one read and a close cost if the peer closes first, and what a UDP dial and close cost. One run of
// the command has several rounds.
var costPart = part{
	name:    "cost",
	command: "go run ./bench/cost",
	build:   []string{"build", "./bench/cost"},
	round:   runs(),
	rounds:  1, // the command has rounds of its own
	bars:    costBars,
	tables:  costTables,
}

// costGroups are groups of contenders that are compared: those of ephemera, which have targets, and net.Dialer.
var costGroups = []struct {
	title, protocol string
	own             []costBar
	net             column
}{
	{
		"TCP: dial, one read, close", "tcp",
		[]costBar{
			{column{name: "zero", title: "ephemera"}, 1.05},
			{column{name: "tracker", title: "ephemera, Tracker"}, 1.15},
		},
		column{name: "net", title: "net.Dialer"},
	},
	{
		"TCP with a source address: dial, one read, close", "tcp",
		[]costBar{{column{name: "pool", title: "ephemera, source"}, 1.08}},
		column{name: "localaddr", title: "net.Dialer, LocalAddr"},
	},
	{
		"UDP: dial, close", "udp",
		[]costBar{{column{name: "zero", title: "ephemera"}, 2}, {column{name: "pool", title: "ephemera, source"}, 2}},
		column{name: "net", title: "net.Dialer"},
	},
}

// costBar is a contender and its target, as a multiple of the cost of net.Dialer.
type costBar struct {
	column
	bound float64
}

func costName(impl, protocol string) string { return "Cost/impl=" + impl + "/protocol=" + protocol }

func costTables(f figures) []table {
	var tables []table
	for _, g := range costGroups {
		var columns []column
		for _, own := range g.own {
			columns = append(columns, own.column)
		}
		name := costName("*", g.protocol)
		tables = append(tables, compare(
			f, g.title, "cost of one", append(columns, g.net),
			row{"time, median, ns", name, "p50-ns"},
			row{"time, mean, ns", name, "ns/op"},
			row{"processor time of the client, ns", name, "cpu-ns"},
			row{"bytes allocated", name, "B/op"},
			row{"allocations", name, "allocs/op"},
		))
	}
	return tables
}

func costBars(f figures) []bar {
	var bars []bar
	for _, g := range costGroups {
		for _, own := range g.own {
			for _, unit := range []struct{ name, title string }{{"p50-ns", "p50"}, {"cpu-ns", "processor time"}} {
				what := fmt.Sprintf("cost: %s ÷ %s, %s, %s", own.title, g.net.title, g.protocol, unit.title)
				ratios := f.ratios(unit.name, costName(own.name, g.protocol), costName(g.net.name, g.protocol))
				bars = append(bars, atMost(what, own.bound, ratios))
			}
		}
	}
	return bars
}
