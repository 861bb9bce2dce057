//go:build linux

// Dial measures the cliff: what a dial to one destination costs while more and more of the local ports are held
// towards it, and what it costs to find that none is left.
//
//	go run ./bench/dial
//
// Five dialers, each in a network namespace of its own, fill the ports towards a destination, each in its own way,
// and dial at each fill. It prints what Go benchmarks print: the median and the 99th percentile of the time of a
// dial, and the mean of the CPU time that the process used meanwhile, system calls included. It takes some minutes.
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
	rounds := flag.Int("rounds", 3, "how often each contender fills the ports anew")
	dials := flag.Int("dials", 10, fmt.Sprintf("dials in a turn, of which there are %d at each fill in a round", turns))
	flag.Parse()
	var err error
	switch {
	case flag.NArg() == 3:
		err = work(flag.Arg(0), flag.Arg(1), flag.Arg(2))
	case flag.NArg() > 0 || *rounds < 1 || *dials < 1:
		err = fmt.Errorf("%q: it takes -ports, -rounds and -dials, and at least one each", os.Args[1:])
	default:
		err = compareAll(*ports, *rounds, *dials)
	}
	if err != nil {
		log.Fatal(err)
	}
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

// work is what the other processes of this program do.
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
