//go:build linux

// Cost measures what a short connection costs its client where nothing stands in its way: a dial, one read and a close.
// The peer closes first, so that no TIME_WAIT stays on this side. For UDP it is a dial and a close.
//
//	go run ./bench/cost
//	go run ./bench/cost -network veth -rounds 20
//
// Each contender has a network namespace, a client process and a server process of its own, and one goroutine dials. In
// a round each contender has a turn. It prints what Go benchmarks print, a line a round: the mean and the median of the
// time, the CPU time of the client's process, and the bytes and mallocs of a dial. Below stand the ratios to
// net.Dialer: each is taken within a round, and the median of these is shown.
//
// It runs as root, or without privilege where the system allows user namespaces. On the loopback the server's sockets
// are in the client's network namespace, so a Tracker hears of two sockets for each connection; behind a veth it hears
// of one. The network veth needs the ip command.
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
		"lo is the loopback; with veth the server is in another network namespace")
	rounds := flag.Int("rounds", 20, "turns that each contender has, besides one to warm up")
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
		err = fmt.Errorf("%q: it takes flags alone, and each number must be at least 1", os.Args[1:])
	default:
		fmt.Println("pkg: github.com/ephemera-go/ephemera/bench/cost")
		err = compare(os.Stdout, *network, *rounds, *dials)
	}
	if err != nil {
		log.Fatal(err)
	}
}
