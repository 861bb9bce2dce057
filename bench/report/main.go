// Report runs the benchmarks of this module and writes what they measured to bench/RESULTS.md and bench/plots:
//
//	go run ./bench/report                    everything: half an hour on two cores, at best with nothing else running
//	go run ./bench/report -only alloc,dial   these parts again; the others stay as they are
//	go run ./bench/report -only none         no part: the text and the plots from bench/raw
//
// It works from the root of the repository. What a part printed is kept in bench/raw, which benchstat can read.
package main

import (
	"flag"
	"log"
	"os"
	"slices"
	"strings"
)

const (
	raw     = "bench/raw/"
	plots   = "bench/plots/"
	results = "bench/RESULTS.md"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("report: ")
	only := flag.String("only", "all", "the parts to run: alloc, tuple, memory, dial, scale, or none")
	rounds := flag.Int("rounds", 10, "runs of each part that is a Go benchmark: the contenders are interleaved")
	flag.Parse()
	if _, err := os.Stat(results); err != nil {
		log.Fatalf("run it from the root of the repository: %v", err)
	}
	for _, dir := range []string{raw, plots} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			log.Fatal(err)
		}
	}
	wanted := strings.Split(*only, ",")
	for _, name := range wanted {
		if name != "all" && name != "none" && !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			log.Fatalf("there is no part %q", name)
		}
	}
	for _, p := range parts {
		if !slices.Contains(wanted, p.name) && !slices.Contains(wanted, "all") {
			continue
		}
		log.Printf("%s …", p.name)
		if err := p.run(*rounds); err != nil {
			log.Fatalf("%s: %v", p.name, err)
		}
	}
	all := map[string]figures{}
	for _, p := range parts {
		f, err := read(raw + p.name + ".txt")
		if err != nil {
			log.Fatalf("%v: run that part first", err)
		}
		all[p.name] = f
	}
	if err := os.WriteFile(results, []byte(render(all)), 0o666); err != nil {
		log.Fatal(err)
	}
	if err := drawPlots(all); err != nil {
		log.Fatal(err)
	}
}
