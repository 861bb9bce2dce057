//go:build linux

// Churn measures how many connections a client can open and close in a second, sustained, if it closes first. Each
// connection leaves its tuple in TIME_WAIT.
//
//	go run ./bench/churn                                                   everything: an hour and a quarter
//	go run ./bench/churn -ports 40000-40499 -for 4s                        the same with 500 ports: ten minutes
//	go run ./bench/churn -networks veth -reuse 1 -upstreams 1 -source no   one situation: three minutes
//
// 32 goroutines dial, read one byte and close. The contenders take turns. Each turn has its own network namespace,
// client process and server process. After a dial that fails there is a pause of 1 ms.
//
// It prints in the format of Go benchmarks: the dials a second that succeeded and that failed, the median and the 99th
// percentile of the time of a dial that succeeded, the CPU time of the client's process for each of these dials, and
// the rate as a multiple of the first contender's. Standard error shows the error of one dial that failed.
//
// It runs as root, or without privilege if the system allows user namespaces. The network veth needs the ip command.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/bench/internal/lab"
)

// clientRole is the argument of a process that takes one turn.
const clientRole = "client"

func main() {
	log.SetFlags(0)
	log.SetPrefix("churn: ")
	var t turn
	flag.TextVar(&t.Ports, "ports", alloc.RangeSet(32768, 60999), "net.ipv4.ip_local_port_range")
	flag.IntVar(&t.AtOnce, "at-once", 32, "goroutines that dial")
	flag.DurationVar(&t.For, "for", 30*time.Second, "how long a turn takes")
	rounds := flag.Int("rounds", 2, "turns that each contender has in each cell")
	networks := flag.String("networks", lab.Loopback+","+lab.Veth,
		"lo is the loopback; with veth the server is in a second network namespace")
	reuse := flag.String("reuse", "0,1,2", "values of net.ipv4.tcp_tw_reuse")
	upstreams := flag.String("upstreams", "1,20", "numbers of destinations")
	source := flag.String("source", "no,yes", "whether the dials name their source address")
	flag.Parse()
	cells, err := matrix(*networks, *reuse, *upstreams, *source)
	switch {
	case flag.NArg() == 1:
		err = work(flag.Arg(0))
	case err != nil:
	case flag.NArg() > 0 || *rounds < 1 || t.AtOnce < 1 || t.For <= 0:
		err = fmt.Errorf("use only flags, and numbers and times above 0 (%q)", os.Args[1:])
	default:
		_, _, err = ends(t.Ports)
		if err == nil {
			fmt.Println("pkg: github.com/ephemera-go/ephemera/bench/churn")
			fmt.Println("tcp_max_tw_buckets:", lab.TimeWaitBuckets)
			err = compare(os.Stdout, cells, *rounds, t)
		}
	}
	if err != nil {
		log.Fatal(err)
	}
}

// work runs in the other processes of this program.
func work(role string) error {
	switch role {
	case clientRole:
		return lab.Serve(turn.run)
	case lab.ServerRole:
		return lab.ServeNetwork()
	}
	return fmt.Errorf("no process has this role: %q", role)
}
