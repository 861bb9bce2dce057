//go:build linux

// Dial measures the cliff: what a dial to one destination costs while more and more of the local ports are held towards it.
//
//	go run ./bench/dial
//
// Four dialers, each in a process of its own with a listener of its own, fill the port range of a private network namespace
// and at each fill dial in turns, so that noise hits all alike. It prints what Go benchmarks print.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/ephemera-go/ephemera/internal/netns"
)

// The ports of the kernel's own range in the namespace, and as many below it for the lane that binds. A process may
// often open 20,000 files, so these are fewer.
const (
	firstPort = 32768
	ports     = 16000
	bindFirst = firstPort - ports
)

// fills are shares of the ports held when dials are timed, in per cent.
var fills = []float64{0, 50, 80, 90, 99, 99.9}

func main() {
	log.SetFlags(0)
	rounds := flag.Int("rounds", 20, "turns at each fill")
	dials := flag.Int("dials", 10, "dials in each turn")
	role := flag.String("role", "", "internal: what this process is")
	flag.Parse()
	var err error
	switch *role {
	case "":
		err = inNamespace()
	case "referee":
		err = referee(*rounds, *dials)
	case "listen":
		err = listen()
	default:
		err = contend(*role, flag.Arg(0))
	}
	if err != nil {
		log.Fatal("dial: ", err)
	}
}

// inNamespace runs the referee in a network namespace of its own.
func inNamespace() error {
	cmd, err := self(append(os.Args[1:], "-role", "referee")...)
	if err != nil {
		return err
	}
	cmd.SysProcAttr = netns.Private()
	cmd.Stdout = os.Stdout
	return cmd.Run()
}

func self(args ...string) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Stderr = os.Stderr
	return cmd, nil
}

// referee starts the contenders, lets them take turns and prints what they measured.
func referee(rounds, dials int) error {
	if err := netns.Up(); err != nil {
		return err
	}
	portRange := fmt.Sprintf("%d %d", firstPort, firstPort+ports-1)
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte(portRange), 0); err != nil {
		return err
	}
	var workers []*worker
	defer func() {
		for _, w := range workers {
			w.stop()
		}
	}()
	for _, c := range contenders {
		l, err := start("-role", "listen")
		if err != nil {
			return err
		}
		workers = append(workers, l)
		var address string
		if err := l.answer(&address); err != nil {
			return err
		}
		w, err := start("-role", c.name, address)
		if err != nil {
			return err
		}
		workers = append(workers, w)
	}
	fmt.Println("pkg: github.com/ephemera-go/ephemera/bench/dial")
	for _, fill := range fills {
		times := make([][]time.Duration, len(contenders))
		for round := range rounds {
			for i := range contenders {
				w := workers[2*i+1]
				var got []time.Duration
				if err := w.ask(request{Hold: int(fill / 100 * ports), Dials: dials}, &got); err != nil {
					return fmt.Errorf("%s: %w", contenders[i].name, err)
				}
				if round > 0 { // the first turn warms up
					times[i] = append(times[i], got...)
				}
			}
		}
		printRow(fmt.Sprintf("Dial/held=%g", fill), times)
	}
	times := make([][]time.Duration, len(contenders))
	for range rounds {
		for i := range contenders {
			var got []time.Duration
			if err := workers[2*i+1].ask(request{Hold: ports, Dials: dials, Fail: true}, &got); err != nil {
				return fmt.Errorf("%s: %w", contenders[i].name, err)
			}
			times[i] = append(times[i], got...)
		}
	}
	printRow("DialExhausted", times)
	return nil
}

// printRow prints the median and the 99th percentile of each contender's times, as Go benchmarks do.
func printRow(name string, times [][]time.Duration) {
	for i, t := range times {
		slices.Sort(t)
		fmt.Printf("Benchmark%s/impl=%s \t%d\t%d p50-ns\t%d p99-ns\n", name, contenders[i].name, len(t), t[len(t)/2], t[len(t)*99/100])
	}
}

// worker is a process that answers each line of JSON with another.
type worker struct {
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
	end func() error
}

func start(args ...string) (*worker, error) {
	cmd, err := self(args...)
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &worker{cmd, json.NewEncoder(in), json.NewDecoder(out), in.Close}, nil
}

func (w *worker) ask(question, answer any) error {
	if err := w.in.Encode(question); err != nil {
		return err
	}
	return w.answer(answer)
}

func (w *worker) answer(answer any) error { return w.out.Decode(answer) }

// stop ends a worker: it returns when its standard input does.
func (w *worker) stop() {
	w.end()
	w.cmd.Wait()
}
