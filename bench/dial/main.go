//go:build linux

// Dial measures the cliff: what a dial to one destination costs while more and more of the local ports are held towards it,
// and what it costs to find that none is left.
//
//	go run ./bench/dial
//
// Five dialers, each in a network namespace of its own, fill the ports towards one destination, each in its own way, and at
// each fill dial in turns, so that noise hits all alike. It prints what Go benchmarks print: the median and the 99th
// percentile of the time of a dial, and the mean of the CPU time that the process used meanwhile, system calls included.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("dial: ")
	ports := flag.String("ports", "28232,64512", "how many ports there are: a comparison of each")
	rounds := flag.Int("rounds", 50, "turns at each fill, besides one to warm up")
	dials := flag.Int("dials", 10, "dials in each turn")
	flag.Parse()
	var err error
	if flag.NArg() == 3 {
		err = work(flag.Arg(0), flag.Arg(1), flag.Arg(2))
	} else {
		err = compareAll(*ports, *rounds, *dials)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// work is what the processes do that this program starts.
func work(role, name, ports string) error {
	n, err := strconv.Atoi(ports)
	if err != nil {
		return err
	}
	c, err := newContender(name, n)
	if err != nil {
		return err
	}
	switch role {
	case "contender":
		err = c.contend()
	case "holder":
		err = c.holder()
	default:
		err = fmt.Errorf("there is no role %q", role)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func compareAll(ports string, rounds, dials int) error {
	fmt.Println("pkg: github.com/ephemera-go/ephemera/bench/dial")
	for text := range strings.SplitSeq(ports, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("-ports %s: %w", ports, err)
		}
		if err := compare(os.Stdout, n, rounds, dials); err != nil {
			return err
		}
	}
	return nil
}
