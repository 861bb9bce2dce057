package main

import (
	"os"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// read returns the figures in a file in the Go benchmark format. For a file that does not exist they are empty, and err
// says so.
func read(path string) (figures, error) {
	f := figures{config: map[string]string{}, values: map[string]map[string][]float64{}}
	file, err := os.Open(path)
	if err != nil {
		return f, err
	}
	defer file.Close()
	reader := benchfmt.NewReader(file, path)
	for reader.Scan() {
		line, ok := reader.Result().(*benchfmt.Result)
		if !ok {
			continue // not a benchmark, such as PASS
		}
		for _, c := range line.Config {
			f.config[c.Key] = strings.TrimSpace(string(c.Value))
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
