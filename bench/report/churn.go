package main

import (
	"fmt"
	"io"
	"strings"
)

// churn: dials and closes, sustained, if the client closes first. The first run has every situation, with short turns
// and so few ports that they are used up at once. The others have long turns and the kernel's default range, in
// situations in which net.Dialer never runs out of ports.
var churnPart = part{
	name:    "churn",
	command: "go run ./bench/churn " + strings.Join(churnRuns, "\n    go run ./bench/churn "),
	build:   []string{"build", "./bench/churn"},
	round: func(program string, out io.Writer) error {
		for _, flags := range churnRuns {
			if err := runs(strings.Fields(flags)...)(program, out); err != nil {
				return err
			}
		}
		return nil
	},
	rounds: 2,
	bars:   churnBars,
	tables: churnTables,
}

// churnRuns are the flags of the runs in a round, which takes ten minutes.
var churnRuns = []string{
	"-rounds 1 -for 4s -ports 40000-40499",
	"-rounds 1 -for 30s -networks lo -reuse 2 -upstreams 1 -source no",
	"-rounds 1 -for 30s -networks veth -reuse 1 -upstreams 1",
}

// churnSources are the contenders without and with a source address: ephemera first, then the one to compare it with.
// NO_PORT is a Control that sets IP_BIND_ADDRESS_NO_PORT.
var churnSources = []struct {
	name, title string
	columns     []column
}{
	{"no", "without a source address", []column{
		{name: "zero", title: "ephemera"},
		{name: "net", title: "net.Dialer"},
		{name: "random", title: "net.Dialer, a random port", aside: true},
	}},
	{"yes", "with a source address", []column{
		{name: "pool", title: "ephemera"},
		{name: "noport", title: "net.Dialer, LocalAddr, NO_PORT"},
		{name: "localaddr", title: "net.Dialer, LocalAddr"},
	}},
}

// churnRows are the situations of churnRuns.
func churnRows(source, unit string) []row {
	at := func(network string, reuse, upstreams int, ports string) row {
		to := plural(upstreams, "destination")
		return row{
			fmt.Sprintf("%s ports, %s, tcp_tw_reuse %d, %s", thousands(ports), network, reuse, to),
			fmt.Sprintf("Churn/impl=*/net=%s/reuse=%d/upstreams=%d/source=%s/ports=%s",
				network, reuse, upstreams, source, ports),
			unit,
		}
	}
	var rows []row
	for _, network := range []string{"lo", "veth"} {
		for reuse := range 3 {
			rows = append(rows, at(network, reuse, 1, "500"), at(network, reuse, 20, "500"))
		}
	}
	if source == "no" {
		rows = append(rows, at("lo", 2, 1, "28232"))
	}
	return append(rows, at("veth", 1, 1, "28232"))
}

func churnTables(f figures) []table {
	var tables []table
	for _, s := range churnSources {
		for _, unit := range []struct {
			name, title string
			by          float64
		}{
			{"dials/s", "dials a second that succeed", 1},
			{"failed/s", "dials a second that fail", 1},
			{"p50-ns", "a dial that succeeds, p50, µs", 1000},
			{"p99-ns", "a dial that succeeds, p99, µs", 1000},
			{"cpu-ns", "processor time for each dial that succeeds, µs", 1000},
		} {
			title, rows := s.title+": "+unit.title, churnRows(s.name, unit.name)
			tables = append(tables, compare(f.scaled(unit.by), title, "where", s.columns, rows...))
		}
	}
	return tables
}

func churnBars(f figures) []bar {
	var bars []bar
	var failed [][]float64
	for _, s := range churnSources {
		own, best := s.columns[0], s.columns[1]
		for _, r := range churnRows(s.name, "dials/s") {
			what := fmt.Sprintf("churn: dials ÷ %s, %s", best.title, r.label)
			bars = append(bars, atLeast(what, 1, f.ratios(r.unit, of(own.name, r.name), of(best.name, r.name))))
			if rounds := f.failedAlone(of(own.name, r.name), of(best.name, r.name)); len(rounds) > 0 {
				failed = append(failed, rounds)
			}
		}
	}
	var total []float64
	if len(failed) > 0 {
		total = perRound(func(v []float64) float64 {
			sum := 0.0
			for _, n := range v {
				sum += n
			}
			return sum
		}, failed...)
	}
	return append(bars, atMost("churn: dials that fail if all of net.Dialer's succeed", 0, total))
}

// failedAlone returns how many dials of one contender failed in each round. It is 0 for rounds in which dials of the
// other failed too.
func (f figures) failedAlone(own, other string) []float64 {
	return perRound(func(v []float64) float64 {
		if v[1] > 0 {
			return 0
		}
		return v[0]
	}, f.values[own]["failed"], f.values[other]["failed"])
}
