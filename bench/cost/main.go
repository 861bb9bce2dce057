//go:build linux

// Cost measures what a short connection costs its client if nothing stands in the way: a dial, one read and a close.
// The peer closes first, so no TIME_WAIT stays on this side. For UDP it measures a dial and a close.
//
//	go run ./bench/cost
//	go run ./bench/cost -network veth -rounds 20
//
// Each contender has its own network namespace, client process and server process, and one goroutine dials. In a round
// each contender has a turn. Cost prints in the format of Go benchmarks, a line a round: the mean and the median of the
// time, the CPU time of the client's process, and the bytes and allocations of a dial. Then it prints the ratios to
// net.Dialer: the median over the rounds of the ratio within a round.
//
// It runs as root, or without privilege if the system allows user namespaces. The network veth needs the ip command. On
// the loopback the server's sockets are in the client's network namespace, so a Tracker hears of two sockets for each
// connection. With veth it hears of one.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"

	"github.com/ephemera-go/ephemera/bench/internal/lab"
)

// contenderRole is the first argument of a process that takes turns.
const contenderRole = "contender"

func main() {
	log.SetFlags(0)
	log.SetPrefix("cost: ")
	network := flag.String("network", lab.Loopback,
		"lo is the loopback; with veth the server is in a second network namespace")
	rounds := flag.Int("rounds", 20, "turns of each contender, not counting one to warm up")
	dials := flag.Int("dials", 1000, "dials in a turn")
	flag.Parse()
	var err error
	switch {
	case flag.NArg() == 1 && flag.Arg(0) == lab.ServerRole:
		err = lab.ServeNetwork()
	case flag.NArg() == 4 && flag.Arg(0) == contenderRole:
		c := contender{protocol: flag.Arg(1), name: flag.Arg(2)}
		if err = c.contend(flag.Arg(3)); err != nil {
			err = fmt.Errorf("%s: %w", c.row(), err)
		}
	case flag.NArg() > 0 || *rounds < 1 || *dials < 1:
		err = fmt.Errorf("use only flags, and numbers above 0 (%q)", os.Args[1:])
	default:
		fmt.Println("pkg: github.com/ephemera-go/ephemera/bench/cost")
		err = compare(os.Stdout, *network, *rounds, *dials)
	}
	if err != nil {
		log.Fatal(err)
	}
}
