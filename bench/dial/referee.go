//go:build linux

package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"

	"github.com/ephemera-go/ephemera/bench/internal/lab"
	"github.com/ephemera-go/ephemera/internal/netns"
)

// fills are the shares of the ports held when dials are timed, in per cent.
var fills = []float64{50, 80, 90, 99, 99.9, 100}

// turns is how many each contender has at a fill in a round, besides one to warm up.
const turns = 12

// compare lets the contenders fill so many ports and dial, and prints what they measured.
//
// While nothing is held all dial in turns. But one that holds connections makes the searches of others longer,
// whatever namespaces they are in, for the kernel has one table of ports and one of connections: with 28,232 ports
// net.Dialer took 0.64 to 0.70 ms at one half alone, and 0.95 to 1.19 beside three others with as many in namespaces
// of their own. So each fills, dials and ends alone, and it is by rounds, each in a new order, that noise hits all
// alike.
func compare(out io.Writer, ports, rounds, dials int) error {
	all := map[string]*timing{}
	for range rounds {
		r := referee{ports, dials, all, map[string]*lab.Process{}}
		if err := r.round(); err != nil {
			return err
		}
	}
	for _, fill := range append([]float64{0}, fills...) {
		for _, name := range contenders {
			if err := all[row(name, ports, fill)].print(out, row(name, ports, fill)); err != nil {
				return err
			}
		}
	}
	return nil
}

// row is the name of what a contender measures at a fill.
func row(name string, ports int, fill float64) string {
	if fill == 100 {
		return fmt.Sprintf("BenchmarkDialExhausted/impl=%s/ports=%d", name, ports)
	}
	return fmt.Sprintf("BenchmarkDial/impl=%s/ports=%d/held=%g", name, ports, fill)
}

// referee tells the processes of the contenders what to do.
type referee struct {
	ports, dials int
	all          map[string]*timing // by row
	processes    map[string]*lab.Process
}

func (r *referee) round() error {
	defer func() {
		for _, p := range r.processes {
			p.Stop()
		}
	}()
	for _, name := range contenders {
		p, err := lab.Start(netns.Private(), "contender", name, strconv.Itoa(r.ports))
		if err != nil {
			return fmt.Errorf("a network namespace for %s, or the user namespace that it takes without privilege: %w", name, err)
		}
		r.processes[name] = p
	}
	if err := r.time(contenders, 0); err != nil {
		return err
	}
	for _, i := range rand.Perm(len(contenders)) {
		name := contenders[i]
		for _, fill := range fills {
			if err := r.time([]string{name}, fill); err != nil {
				return err
			}
		}
		r.processes[name].Stop()
		delete(r.processes, name)
	}
	return nil
}

// time has each of these contenders take its turns. The order is new each time, for a turn leaves the caches to the
// next.
func (r *referee) time(names []string, fill float64) error {
	question := turn{Hold: int(fill / 100 * float64(r.ports)), Dials: r.dials}
	for i := range turns + 1 {
		for _, j := range rand.Perm(len(names)) {
			var got timing
			if err := r.processes[names[j]].Ask(question, &got); err != nil {
				return fmt.Errorf("the process of %s, which says why above: %w", names[j], err)
			}
			if i > 0 { // the first one warms up
				name := row(names[j], r.ports, fill)
				if r.all[name] == nil {
					r.all[name] = &timing{}
				}
				r.all[name].add(got)
			}
		}
	}
	return nil
}
