package main

import "fmt"

// bar is a target for a figure, and the figure in each round.
type bar struct {
	what, sign string
	bound      float64
	rounds     []float64
}

func atMost(what string, bound float64, rounds []float64) bar { return bar{what, "≤", bound, rounds} }

func atLeast(what string, bound float64, rounds []float64) bar {
	return bar{what, "≥", bound, rounds}
}

// verdict compares the median with the target.
func (b bar) verdict() string {
	m := median(b.rounds)
	switch {
	case len(b.rounds) == 0:
		return "not measured"
	case b.sign == "≤" && m <= b.bound || b.sign == "≥" && m >= b.bound:
		return "met"
	}
	return "**missed**"
}

// spread returns the range in which half of the rounds lie, if there are at least two rounds.
func (b bar) spread() string {
	if len(b.rounds) < 2 {
		return ""
	}
	return fmt.Sprintf("%s – %s", human(quantile(b.rounds, 0.25)), human(quantile(b.rounds, 0.75)))
}

// barTable returns the table of all bars.
func barTable(bars []bar) table {
	t := table{header: []string{"figure", "target", "median", "half of the rounds", "rounds", ""}}
	for _, b := range bars {
		t.rows = append(t.rows, []string{
			b.what, b.sign + " " + human(b.bound), human(median(b.rounds)), b.spread(),
			fmt.Sprint(len(b.rounds)), b.verdict(),
		})
	}
	return t
}
