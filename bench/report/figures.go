package main

import (
	"math"
	"slices"
	"strings"
)

// figures are the figures that a part printed. Names are without the prefix Benchmark and the suffix of GOMAXPROCS.
type figures struct {
	config map[string]string // goos, commit and so on

	// By name and unit, one value a round. There are only whole rounds, because a part that fails writes nothing.
	values map[string]map[string][]float64
}

// of returns the name of a contender's figure, for a name that has * in place of the contender.
func of(impl, name string) string { return strings.Replace(name, "*", impl, 1) }

// median returns the median over the rounds of the figure name in unit, or NaN if there is none.
func (f figures) median(name, unit string) float64 { return median(f.values[name][unit]) }

// ratios returns one figure divided by another, for each round.
func (f figures) ratios(unit, over, under string) []float64 {
	return perRound(func(v []float64) float64 { return v[0] / v[1] }, f.values[over][unit], f.values[under][unit])
}

// rounds returns how many rounds there are.
func (f figures) rounds() int {
	n := 0
	for _, units := range f.values {
		for _, values := range units {
			n = max(n, len(values))
		}
	}
	return n
}

// scaled returns f with all values divided by by.
func (f figures) scaled(by float64) figures {
	g := figures{f.config, map[string]map[string][]float64{}}
	for name, units := range f.values {
		g.values[name] = map[string][]float64{}
		for unit, values := range units {
			g.values[name][unit] = perRound(func(v []float64) float64 { return v[0] / by }, values)
		}
	}
	return g
}

// perRound calls f with the values of all series for each round that all series have.
func perRound(f func(values []float64) float64, series ...[]float64) []float64 {
	n := math.MaxInt
	for _, s := range series {
		n = min(n, len(s))
	}
	all := make([]float64, n)
	for i := range all {
		var values []float64
		for _, s := range series {
			values = append(values, s[i])
		}
		all[i] = f(values)
	}
	return all
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile interpolates between neighbours. Without values it is NaN.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return math.NaN()
	}
	at, fraction := math.Modf(q * float64(len(sorted)-1))
	low := sorted[int(at)]
	if fraction == 0 {
		return low
	}
	return low + fraction*(sorted[int(at)+1]-low)
}
