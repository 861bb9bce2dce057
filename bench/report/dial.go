package main

// dial: what a dial to one destination costs while its ports fill up. The command has its contenders take turns; a
// round is one run of it.
var dialPart = part{
	name:    "dial",
	command: "go run ./bench/dial",
	build:   []string{"build", "./bench/dial"},
	round:   runs(),
	rounds:  1, // and as many in it as its flag says
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
	dialPorts = []string{"28232", "64512"} // the kernel's default range, and all from 1024 on
	dialFills = []string{"0", "50", "80", "90", "99", "99.9"}
)

// dialRows are dials at each share of the ports held.
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
			{"p50-ns", "socket to established on loopback, p50, µs"},
			{"p99-ns", "the same, p99, µs"},
			{"cpu-ns", "the same, processor time of a dial, µs"},
		} {
			rows := append(dialRows(ports, unit.name), dialExhausted(ports, unit.name))
			tables = append(tables, compare(f.scaled(1000), thousands(ports)+" ports: "+unit.title, "held", dialColumns, rows...))
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
		bars = append(bars, atMost("dial ÷ the whole-range IP_LOCAL_PORT_RANGE at "+r.label, 1.05, ratios(r, "range", "oneliner")))
	}
	return append(bars, atLeast("dial: that nothing is free, net.Dialer ÷ ephemera", 1000, ratios(none, "net", "range")))
}

// dialCharts draws the cliff. The README shows the one of the kernel's default range.
func dialCharts(f figures) ([]chart, error) {
	var charts []chart
	for _, ports := range dialPorts {
		file := "dial.svg"
		if ports != dialPorts[0] {
			file = "dial-" + ports + ".svg"
		}
		title := "A dial to one destination while its " + thousands(ports) + " ports fill up"
		drawn, err := lines(file, title, "ports held", "p50, µs", f.scaled(1000), dialColumns, dialRows(ports, "p50-ns"))
		if err != nil {
			return nil, err
		}
		charts = append(charts, drawn...)
	}
	return charts, nil
}
