package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// how explains the figures.
const how = `Every figure is the median over the rounds of a part. In a round all contenders run, one after the other.
The number in brackets says how many times ephemera's figure it is: the median of the ratios within each round. Trust
the ratios rather than the times, and only as far as the rounds agree: "half of the rounds" is the range in which half
of them lie.
`

// render returns the text of RESULTS.md and its charts.
func render(all map[string]figures) (string, []chart, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "# Results\n\n`go run ./bench/report` writes this file from [raw](raw).\n\n%s\n%s\n## Targets\n\n",
		head(all), how)
	var bars []bar
	for _, p := range parts {
		if p.bars != nil {
			bars = append(bars, p.bars(all[p.name])...)
		}
	}
	b.WriteString(barTable(bars).markdown())

	var charts []chart
	for _, p := range parts {
		f := all[p.name]
		if f.rounds() == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s of\n\n    %s\n", p.name, plural(f.rounds(), "round"), p.command)
		for _, t := range p.tables(f) {
			if len(t.rows) > 0 {
				fmt.Fprintf(&b, "\n### %s\n\n%s", t.title, t.markdown())
			}
		}
		if p.charts == nil {
			continue
		}
		drawn, err := p.charts(f)
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", p.name, err)
		}
		for _, c := range drawn {
			fmt.Fprintf(&b, "\n![%s](plots/%s)\n", c.plot.Title.Text, c.file)
		}
		charts = append(charts, drawn...)
	}
	return b.String(), charts, nil
}

// head returns the machine, the versions and the date of the measurements: once if all parts share them, otherwise for
// each part.
func head(all map[string]figures) string {
	var rows [][]string
	var settings, dates []string
	for _, p := range parts {
		c := all[p.name].config
		if len(c) == 0 {
			continue
		}
		cells := []string{
			cmp.Or(c["cpu"], "?") + ", " + c["cores"] + " cores", c["kernel"], c["go"], "commit " + c["commit"],
		}
		settings = append(settings, strings.Join(cells, "; "))
		dates = append(dates, c["date"])
		rows = append(rows, append(append([]string{p.name}, cells...), c["date"]))
	}
	if len(rows) == 0 {
		return "There are no measurements yet.\n"
	}
	dates = slices.Compact(dates)
	if len(slices.Compact(settings)) == 1 {
		return fmt.Sprintf("%s; %s.\n", settings[0], strings.Join(dates, ", "))
	}
	t := table{header: []string{"part", "machine", "kernel", "Go", "commit", "measured"}, rows: rows}
	return "**The parts were measured at different commits or on different machines:**\n\n" + t.markdown()
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return thousands(fmt.Sprint(n)) + " " + what
}
