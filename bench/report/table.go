package main

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// column is a contender: its name in the benchmarks and its title in the text. The others are compared with the first
// column of a table. A contender that is aside is not compared.
type column struct {
	name, title string
	aside       bool
}

// table is a table with a title. It is not shown if it has no rows.
type table struct {
	title  string
	header []string
	rows   [][]string
}

// row is a line of a comparison: the figures in a unit, by a name that has * in place of the contender.
type row struct{ label, name, unit string }

// compare returns a table of medians and, in brackets, of ratios to the first column. It leaves out contenders and rows
// without figures.
func compare(f figures, title, first string, columns []column, rows ...row) table {
	t := table{title: title, header: []string{first}}
	own := columns[0].name
	columns = slices.DeleteFunc(slices.Clone(columns), func(c column) bool {
		return !slices.ContainsFunc(rows, func(r row) bool { return len(f.values[of(c.name, r.name)][r.unit]) > 0 })
	})
	for _, c := range columns {
		t.header = append(t.header, c.title)
	}
	for _, r := range rows {
		cells, measured := []string{r.label}, false
		for _, c := range columns {
			name := of(c.name, r.name)
			cell := human(f.median(name, r.unit))
			ratio := median(f.ratios(r.unit, name, of(own, r.name)))
			if c.name != own && !c.aside && f.median(of(own, r.name), r.unit) > 0 &&
				!math.IsNaN(ratio) && !math.IsInf(ratio, 0) {
				cell += " (" + human(ratio) + "×)"
			}
			cells = append(cells, cell)
			measured = measured || cell != ""
		}
		if measured {
			t.rows = append(t.rows, cells)
		}
	}
	return t
}

// markdown returns the table, without its title.
func (t table) markdown() string {
	var b strings.Builder
	line := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(t.header)
	b.WriteString(strings.Repeat("|---", len(t.header)) + "|\n")
	for _, cells := range t.rows {
		line(cells)
	}
	return b.String()
}

// human returns v with at least three digits and a comma at each thousand, or nothing for NaN.
func human(v float64) string {
	digits := 2
	switch {
	case math.IsNaN(v):
		return ""
	case v < 0:
		return "-" + human(-v)
	case v >= 100 || v == 0:
		digits = 0
	case v >= 10:
		digits = 1
	}
	return thousands(strconv.FormatFloat(v, 'f', digits, 64))
}

// thousands puts commas into a number.
func thousands(number string) string {
	whole, fraction, found := strings.Cut(number, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if found {
		whole += "." + fraction
	}
	return whole
}
