//go:build linux

// Dial measures what a dial to one destination costs while more and more of the local ports are held towards it, and
// what it costs to find out that none is left.
//
//	go run ./bench/dial
//
// Five dialers, each in its own network namespace, fill the ports towards a destination in their own way, and dial at
// each fill. Dial prints in the format of Go benchmarks: the median and the 99th percentile of the time of a dial, and
// the mean CPU time of the process for a dial, including system calls. It takes some minutes.
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
	ports := flag.String("ports", "28232,64512", "numbers of ports, separated by commas: one comparison for each")
	rounds := flag.Int("rounds", 3, "how often each contender fills the ports")
	dials := flag.Int("dials", 10,
		fmt.Sprintf("dials in a turn; each contender has %d turns at each fill in a round", turns))
	flag.Parse()
	var err error
	switch {
	case flag.NArg() == 3:
		err = work(flag.Arg(0), flag.Arg(1), flag.Arg(2))
	case flag.NArg() > 0 || *rounds < 1 || *dials < 1:
		err = fmt.Errorf("use only -ports, -rounds and -dials, and numbers above 0 (%q)", os.Args[1:])
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
			return fmt.Errorf("-ports: use numbers separated by commas: %w", err)
		}
		if err := compare(os.Stdout, n, rounds, dials); err != nil {
			return err
		}
	}
	return nil
}

// work runs in the other processes of this program.
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
		err = fmt.Errorf("no process has this role: %q", role)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
