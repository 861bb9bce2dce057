package main

// dial: what a dial to one destination costs while its ports fill up. One run of the command has several rounds.
var dialPart = part{
	name:    "dial",
	command: "go run ./bench/dial",
	build:   []string{"build", "./bench/dial"},
	round:   runs(),
	rounds:  1, // the command has rounds of its own
	bars:    dialBars,
	tables:  dialTables,
	charts:  dialCharts,
}

var dialColumns = []column{
	{name: "range", title: "ephemera"},
	{name: "bind", title: "ephemera, bound ports"},
	{name: "net", title: "net.Dialer"},
	{name: "localaddr", title: "net.Dialer, LocalAddr"},
	{name: "oneliner", title: "whole-range IP_LOCAL_PORT_RANGE"},
}

var (
	dialPorts = []string{"28232", "64512"} // the kernel's default range, and all ports from 1024 on
	dialFills = []string{"0", "50", "80", "90", "99", "99.9"}
)

// dialRows are dials at each share of the ports that is held.
func dialRows(ports, unit string) []row {
	var rows []row
	for _, fill := range dialFills {
		rows = append(rows, row{fill + " %", "Dial/impl=*/ports=" + ports + "/held=" + fill, unit})
	}
	return rows
}

func dialExhausted(ports, unit string) row {
	return row{"all: the error", "DialExhausted/impl=*/ports=" + ports, unit}
}

func dialTables(f figures) []table {
	var tables []table
	for _, ports := range dialPorts {
		for _, unit := range []struct{ name, title string }{
			{"p50-ns", "from socket to established on loopback, p50, µs"},
			{"p99-ns", "the same, p99, µs"},
			{"cpu-ns", "the same, processor time of a dial, µs"},
		} {
			rows := append(dialRows(ports, unit.name), dialExhausted(ports, unit.name))
			title := thousands(ports) + " ports: " + unit.title
			tables = append(tables, compare(f.scaled(1000), title, "held", dialColumns, rows...))
		}
	}
	return tables
}

func dialBars(f figures) []bar {
	rows, none := dialRows("28232", "p50-ns"), dialExhausted("28232", "p50-ns")
	ratios := func(r row, over, under string) []float64 {
		return f.ratios(r.unit, of(over, r.name), of(under, r.name))
	}
	first, last := of("range", rows[0].name), of("range", rows[len(rows)-1].name)
	bars := []bar{
		atMost("dial: p50 at 99.9 % ÷ at 0 %", 1.2, f.ratios("p50-ns", last, first)),
		atMost("dial ÷ net.Dialer at 0 %", 1.1, ratios(rows[0], "range", "net")),
	}
	for _, r := range rows[1:] {
		bars = append(bars, atLeast("dial: net.Dialer ÷ ephemera at "+r.label, 30, ratios(r, "net", "range")))
	}
	for _, r := range rows {
		what := "dial ÷ the whole-range IP_LOCAL_PORT_RANGE at " + r.label
		bars = append(bars, atMost(what, 1.05, ratios(r, "range", "oneliner")))
	}
	exhausted := atLeast("dial: error if nothing is free, net.Dialer ÷ ephemera", 1000, ratios(none, "net", "range"))
	return append(bars, exhausted)
}

// dialCharts draws a chart for each number of ports. The README shows that of the kernel's default range.
func dialCharts(f figures) ([]chart, error) {
	var charts []chart
	for _, ports := range dialPorts {
		file := "dial.svg"
		if ports != dialPorts[0] {
			file = "dial-" + ports + ".svg"
		}
		title := "A dial to one destination while its " + thousands(ports) + " ports fill up"
		rows := dialRows(ports, "p50-ns")
		drawn, err := lines(file, title, "ports held", "p50, µs", f.scaled(1000), dialColumns, rows)
		if err != nil {
			return nil, err
		}
		charts = append(charts, drawn...)
	}
	return charts, nil
}
