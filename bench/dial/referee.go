//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/ephemera-go/ephemera/internal/netns"
)

// fills are the shares of the ports held when dials are timed, in per cent.
var fills = []float64{50, 80, 90, 99, 99.9, 100}

// heats are the contenders that hold connections at the same time, and dial in turns. One that searches the kernel's table of
// ports pays for what others have in it, in other namespaces too: with all five at once net.Dialer takes 1.5 to 3 times what
// it takes alone. Those of the first heat are in one namespace, so that they share their entries. While nothing is held all
// contenders dial in turns.
var heats = [][]string{{"net", "oneliner", "range"}, {"localaddr"}, {"bind"}}

// compare lets the contenders fill so many ports and take turns, and prints what they measured.
func compare(out io.Writer, ports, rounds, dials int) error {
	r := referee{out, ports, rounds, dials, map[string]*process{}}
	defer func() { r.stop(contenders) }()
	for _, name := range contenders {
		var attr *syscall.SysProcAttr
		if !slices.Contains(heats[0], name) {
			attr = netns.Private()
		}
		p, err := start(attr, "contender", name, strconv.Itoa(ports))
		if err != nil {
			return fmt.Errorf("a network namespace for %s: %w", name, err)
		}
		r.processes[name] = p
	}
	if err := r.time(contenders, "Dial", "/held=0"); err != nil {
		return err
	}
	for _, names := range heats {
		for _, fill := range fills {
			if err := r.fill(names, int(fill/100*float64(ports))); err != nil {
				return err
			}
			benchmark, suffix := "Dial", fmt.Sprintf("/held=%g", fill)
			if fill == 100 {
				benchmark, suffix = "DialExhausted", ""
			}
			if err := r.time(names, benchmark, suffix); err != nil {
				return err
			}
		}
		r.stop(names)
	}
	return nil
}

// referee tells the processes of the contenders what to do.
type referee struct {
	out                  io.Writer
	ports, rounds, dials int
	processes            map[string]*process
}

// fill has these contenders hold so many connections, at the same time: nobody is timed.
func (r *referee) fill(names []string, hold int) error {
	var wg sync.WaitGroup
	errs := make([]error, len(names))
	for i, name := range names {
		wg.Go(func() { errs[i] = r.ask(name, turn{Hold: hold}, new(timing)) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// time has each of these contenders take its turns, and prints what they took. The order is new each time, for a turn leaves
// the caches to the next.
func (r *referee) time(names []string, benchmark, suffix string) error {
	all := make([]timing, len(names))
	for round := range r.rounds + 1 {
		for _, i := range rand.Perm(len(names)) {
			var got timing
			if err := r.ask(names[i], turn{Dials: r.dials}, &got); err != nil {
				return err
			}
			if round > 0 { // the first one warms up
				all[i].Dials = append(all[i].Dials, got.Dials...)
				all[i].CPU += got.CPU
			}
		}
	}
	for i, t := range all {
		slices.Sort(t.Dials)
		n := len(t.Dials)
		if _, err := fmt.Fprintf(r.out, "Benchmark%s/impl=%s/ports=%d%s \t%d\t%d p50-ns\t%d p99-ns\t%d cpu-ns\n",
			benchmark, names[i], r.ports, suffix, n, t.Dials[n/2], t.Dials[n*99/100], t.CPU/time.Duration(n)); err != nil {
			return err
		}
	}
	return nil
}

func (r *referee) ask(name string, question turn, answer *timing) error {
	if err := r.processes[name].ask(question, answer); err != nil {
		return fmt.Errorf("the process of %s, which says why above: %w", name, err)
	}
	return nil
}

// stop ends these contenders, and what they hold.
func (r *referee) stop(names []string) {
	for _, name := range names {
		if p := r.processes[name]; p != nil {
			p.stop()
		}
		delete(r.processes, name)
	}
}
