//go:build linux

// Dial measures the cliff: what a dial to one destination costs while more and more of the local ports are held towards it,
// and what it costs to find that none is left.
//
//	go run ./bench/dial
//
// Five dialers in private network namespaces fill the ports towards a destination, each in its own way, and at each fill
// dial in turns, so that noise hits all alike. It prints what Go benchmarks print: the median and the 99th percentile of the
// time of a dial, and the mean of the CPU time that the process used meanwhile, system calls included.
//
// It takes some minutes, most of them for net.Dialer to fill the second half of 64,512 ports, and 1 GB of memory.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/ephemera-go/ephemera/internal/netns"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("dial: ")
	ports := flag.String("ports", "28232,64512", "how many ports there are: a comparison of each")
	rounds := flag.Int("rounds", 50, "turns at each fill, besides one to warm up")
	dials := flag.Int("dials", 10, "dials in each turn")
	flag.Parse()
	var err error
	switch role := flag.Arg(0); {
	case role == "" && *rounds > 0 && *dials > 0:
		err = inNamespace()
	case role == "referee":
		err = compareAll(*ports, *rounds, *dials)
	case flag.NArg() == 3:
		err = work(role, flag.Arg(1), flag.Arg(2))
	default:
		err = fmt.Errorf("%q: it takes -ports, -rounds and -dials, of which there is at least one each", os.Args[1:])
	}
	if err != nil {
		log.Fatal(err)
	}
}

// inNamespace runs the referee in a network namespace.
func inNamespace() error {
	path, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(path, append(os.Args[1:], "referee")...)
	cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = netns.Private(), os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("a network namespace of its own, or the user namespace that it takes without privilege: %w", err)
	}
	return cmd.Wait()
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

// work is what the processes do that the referee and the contenders start.
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
