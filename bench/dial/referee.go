//go:build linux

package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ephemera-go/ephemera/internal/netns"
)

// fills are shares of the ports held when dials are timed, in per cent.
var fills = []float64{0, 50, 80, 90, 99, 99.9, 100}

// compare lets the contenders fill so many ports and take turns, and prints what they measured.
func compare(out io.Writer, ports, rounds, dials int) error {
	r := referee{map[string]*process{}}
	defer r.stop()
	for _, name := range contenders {
		p, err := start(netns.Private(), "contender", name, strconv.Itoa(ports))
		if err != nil {
			return fmt.Errorf("a network namespace for %s: %w", name, err)
		}
		r.processes[name] = p
	}
	for _, fill := range fills {
		if err := r.fill(int(fill / 100 * float64(ports))); err != nil {
			return err
		}
		times, err := r.rounds(rounds, dials)
		if err != nil {
			return err
		}
		for _, name := range contenders {
			row := fmt.Sprintf("Dial/impl=%s/ports=%d/held=%g", name, ports, fill)
			if fill == 100 {
				row = fmt.Sprintf("DialExhausted/impl=%s/ports=%d", name, ports)
			}
			if _, err := fmt.Fprintln(out, times[name].row(row)); err != nil {
				return err
			}
		}
	}
	return nil
}

type referee struct{ processes map[string]*process }

// fill has all contenders hold so many connections, at the same time: nobody is timed.
func (r referee) fill(hold int) error {
	var wg sync.WaitGroup
	errs := make(chan error, len(r.processes))
	for name := range r.processes {
		wg.Go(func() { errs <- r.ask(name, turn{Hold: hold}, new(timing)) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// rounds has each contender take its turns: in an order that is new each time, for a turn leaves the caches to the next.
func (r referee) rounds(n, dials int) (map[string]*timing, error) {
	all := map[string]*timing{}
	for _, name := range contenders {
		all[name] = &timing{}
	}
	for round := range n + 1 {
		for _, i := range rand.Perm(len(contenders)) {
			name := contenders[i]
			var got timing
			if err := r.ask(name, turn{Dials: dials}, &got); err != nil {
				return nil, err
			}
			if round > 0 { // the first one warms up
				all[name].Dials = append(all[name].Dials, got.Dials...)
				all[name].CPU += got.CPU
			}
		}
	}
	return all, nil
}

func (r referee) ask(name string, question turn, answer *timing) error {
	if err := r.processes[name].ask(question, answer); err != nil {
		return fmt.Errorf("the process of %s, which says why above: %w", name, err)
	}
	return nil
}

func (r referee) stop() {
	for _, p := range r.processes {
		p.stop()
	}
}

// row is a line as Go benchmarks print.
func (t *timing) row(name string) string {
	slices.Sort(t.Dials)
	n := len(t.Dials)
	return fmt.Sprintf("Benchmark%s \t%d\t%d p50-ns\t%d p99-ns\t%d cpu-ns", name, n, t.Dials[n/2], t.Dials[n*99/100], t.CPU/time.Duration(n))
}
