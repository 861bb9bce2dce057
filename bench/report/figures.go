package main

import (
	"math"
	"slices"
	"strings"
)

// figures is what a part printed. Where a name is asked for, it is without Benchmark and GOMAXPROCS.
type figures struct {
	config map[string]string // goos, commit and so on

	// By name and unit, one value a round: the report runs whole rounds and stops a part that fails.
	values map[string]map[string][]float64
}

// of names a contender's figure: in a name that stands for all of them, * is the contender.
func of(impl, name string) string { return strings.Replace(name, "*", impl, 1) }

// median returns the median over the rounds of what name measured in unit, not a number if there is none.
func (f figures) median(name, unit string) float64 { return median(f.values[name][unit]) }

// ratios returns what one name measured divided by what another did, round by round.
func (f figures) ratios(unit, over, under string) []float64 {
	return perRound(func(v []float64) float64 { return v[0] / v[1] }, f.values[over][unit], f.values[under][unit])
}

// rounds returns in how many rounds something was measured.
func (f figures) rounds() int {
	n := 0
	for _, units := range f.values {
		for _, values := range units {
			n = max(n, len(values))
		}
	}
	return n
}

// scaled returns f with all values divided.
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

// perRound makes one value of those of each round that all series have.
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

// quantile interpolates between neighbours; of nothing it is not a number.
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
