package main

import (
	"math"
	"os"
	"slices"

	"golang.org/x/perf/benchfmt"
)

// figures is what a part printed.
type figures struct {
	config map[string]string               // goos, commit and so on
	values map[string]map[string][]float64 // by name, without Benchmark and GOMAXPROCS, and unit
}

func read(path string) (figures, error) {
	f := figures{map[string]string{}, map[string]map[string][]float64{}}
	file, err := os.Open(path)
	if err != nil {
		return f, err
	}
	defer file.Close()
	reader := benchfmt.NewReader(file, path)
	for reader.Scan() {
		line, ok := reader.Result().(*benchfmt.Result)
		if !ok {
			continue // what is no benchmark: ok, PASS
		}
		for _, c := range line.Config {
			f.config[c.Key] = string(c.Value)
		}
		base, parts := line.Name.Parts()
		name := string(base)
		for _, p := range parts {
			if p[0] == '/' {
				name += string(p)
			}
		}
		if f.values[name] == nil {
			f.values[name] = map[string][]float64{}
		}
		for _, v := range line.Values {
			value, unit := v.Value, v.Unit
			if v.OrigUnit != "" {
				value, unit = v.OrigValue, v.OrigUnit
			}
			f.values[name][unit] = append(f.values[name][unit], value)
		}
	}
	return f, reader.Err()
}

// median returns the median of what name measured in unit.
func (f figures) median(name, unit string) (float64, bool) {
	values := slices.Sorted(slices.Values(f.values[name][unit]))
	if len(values) == 0 {
		return 0, false
	}
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2, true
}

// medianOrNaN is median that is not a number if there is none.
func (f figures) medianOrNaN(name, unit string) float64 {
	if v, ok := f.median(name, unit); ok {
		return v
	}
	return math.NaN()
}
