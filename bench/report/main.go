// Report runs the benchmarks of this module and writes what they measured to bench/RESULTS.md and bench/plots:
//
//	go run ./bench/report                    everything: an hour and a half on two idle cores
//	go run ./bench/report -only alloc,dial   only these parts; the others keep their figures
//	go run ./bench/report -only churn,cost   short connections: 22 minutes
//	go run ./bench/report -only none         no part: the text and the plots from bench/raw
//	go run ./bench/report -only million      a million connections: 12 GiB, so it runs only if it is named
//
// It runs from the root of the repository. It keeps the output of each part in bench/raw, which benchstat can read.
// Each part has a file in this package, with its command, its tables and charts, and its targets.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
)

// Where the report reads and writes, from the root of the repository.
const (
	raw     = "bench/raw/"
	plots   = "bench/plots/"
	results = "bench/RESULTS.md"
)

// parts are all parts, in the order of the report.
var parts = []part{allocPart, tuplePart, memoryPart, dialPart, churnPart, costPart, beyondPart, millionPart, scalePart}

func main() {
	log.SetFlags(0)
	log.SetPrefix("report: ")
	only := flag.String("only", "all",
		"the parts to run, separated by commas: "+strings.Join(names(), ", ")+", or all, or none")
	rounds := flag.Int("rounds", 0,
		"rounds of each part that has several (default 10 for Go benchmarks, 3 for beyond, 2 for churn)")
	flag.Parse()
	if _, err := os.Stat(results); err != nil {
		log.Fatalf("cannot find the results: run report from the root of the repository: %v", err)
	}
	for _, dir := range []string{raw, plots} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			log.Fatal(err)
		}
	}
	chosen, err := choose(*only)
	if err != nil {
		log.Fatal(err)
	}
	failed := false
	for _, p := range chosen {
		if err := p.run(*rounds); err != nil {
			log.Printf("%s: %v; the report keeps the figures of the last run", p.name, err)
			failed = true
		}
	}
	if err := write(); err != nil {
		log.Fatal(err)
	}
	if failed {
		os.Exit(1)
	}
}

func names() []string {
	var all []string
	for _, p := range parts {
		all = append(all, p.name)
	}
	return all
}

// choose returns the parts that a value of -only names.
func choose(only string) ([]part, error) {
	known := map[string][]part{"none": nil}
	for _, p := range parts {
		known[p.name] = []part{p}
		if !p.onlyNamed {
			known["all"] = append(known["all"], p)
		}
	}
	var chosen []part
	for name := range strings.SplitSeq(only, ",") {
		these, ok := known[name]
		if !ok {
			return nil, fmt.Errorf("-only: no such part: use %s, all or none (%q)", strings.Join(names(), ", "), name)
		}
		chosen = append(chosen, these...)
	}
	return chosen, nil
}

// write writes the text and the plots from the files in raw.
func write() error {
	all := map[string]figures{}
	for _, p := range parts {
		f, err := read(raw + p.name + ".txt")
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		all[p.name] = f
	}
	text, charts, err := render(all)
	if err != nil {
		return err
	}
	for _, c := range charts {
		if err := c.save(); err != nil {
			return err
		}
	}
	return os.WriteFile(results, []byte(text), 0o666)
}
