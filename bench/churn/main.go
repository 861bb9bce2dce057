//go:build linux

// Churn measures how many connections a second a client can open and close, sustained, if it closes first. Each of them
// leaves its tuple in TIME_WAIT.
//
//	go run ./bench/churn                                                   everything: an hour
//	go run ./bench/churn -ports 40000-40499 -for 4s                        the same with 500 ports: nine minutes
//	go run ./bench/churn -networks veth -reuse 1 -upstreams 1 -source no   one situation: two minutes
//
// 32 goroutines dial, read one byte and close. The contenders take turns, each in a network namespace, a client process
// and a server process of its own. A dial that fails is followed by a pause of 1 ms.
//
// It prints what Go benchmarks print: dials a second that succeeded and that failed, the median and the 99th percentile
// of the time of a dial that succeeded, the CPU time that the client's process used for each of these, and the rate as
// a multiple of net.Dialer's. Standard error has an example of the dials that failed.
//
// It runs as root, or without privilege where the system allows user namespaces. The network veth needs the ip command.
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
		"lo is the loopback; with veth the server is in another network namespace")
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
		err = fmt.Errorf("%q: it takes flags alone, and each number must be at least 1", os.Args[1:])
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

// work is what the other processes of this program do.
func work(role string) error {
	switch role {
	case clientRole:
		return lab.Serve(turn.run)
	case lab.ServerRole:
		return lab.ServeNetwork()
	}
	return fmt.Errorf("there is no role %q", role)
}
