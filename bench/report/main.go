// Report runs the benchmarks of this module and writes what they measured to bench/RESULTS.md and bench/plots:
//
//	go run ./bench/report                    everything: an hour and a half on two idle cores
//	go run ./bench/report -only alloc,dial   these parts again; the others stay as they are
//	go run ./bench/report -only churn,cost   short connections: 18 minutes
//	go run ./bench/report -only none         no part: the text and the plots from bench/raw
//	go run ./bench/report -only million      a million connections: 12 GiB, so only when named
//
// It works from the root of the repository. What a part prints is kept in bench/raw, which benchstat can read. Each
// part has a file here, which says what runs, what is shown of it and what the figures should be.
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

// parts are all that is measured, in the order of the report.
var parts = []part{allocPart, tuplePart, memoryPart, dialPart, churnPart, costPart, beyondPart, millionPart, scalePart}

func main() {
	log.SetFlags(0)
	log.SetPrefix("report: ")
	only := flag.String("only", "all", "the parts to run, with commas: "+strings.Join(names(), ", ")+", or all, or none")
	rounds := flag.Int("rounds", 0, "rounds of each part that has several (default 10 for Go benchmarks, 3 for beyond, 2 for churn)")
	flag.Parse()
	if _, err := os.Stat(results); err != nil {
		log.Fatalf("run it from the root of the repository: %v", err)
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
			log.Printf("%s: %v; the report goes on without it", p.name, err)
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

// choose returns the parts that a value of -only means.
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
			return nil, fmt.Errorf("there is no part %q: they are %s, all and none", name, strings.Join(names(), ", "))
		}
		chosen = append(chosen, these...)
	}
	return chosen, nil
}

// write writes the text and the plots from what there is in raw.
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
