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

// fills are the shares of the ports that are held when dials are timed, in percent.
var fills = []float64{50, 80, 90, 99, 99.9, 100}

// turns is how many turns each contender has at a fill in a round, not counting one to warm up.
const turns = 12

// compare makes the contenders fill this many ports and dial, and prints the results.
//
// While nothing is held, all contenders dial in turns. Then each fills, dials and ends alone, because a contender that
// holds connections makes the searches of the others longer. The kernel has one table of ports and one of connections
// for all network namespaces. With half of 28,232 ports held, net.Dialer took 0.64 to 0.70 ms alone, and 0.95 to 1.19
// ms beside three others that held as many in other namespaces. Rounds, each in a new order, spread noise over all
// contenders.
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

// row returns the name of a contender at a fill in the output.
func row(name string, ports int, fill float64) string {
	if fill == 100 {
		return fmt.Sprintf("BenchmarkDialExhausted/impl=%s/ports=%d", name, ports)
	}
	return fmt.Sprintf("BenchmarkDial/impl=%s/ports=%d/held=%g", name, ports, fill)
}

// referee controls the processes of the contenders.
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
			return fmt.Errorf("cannot make a network namespace (without privilege it needs a user namespace): %w", err)
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

// time gives each of these contenders its turns. The order is new each time, because a turn inherits the caches of the
// turn before.
func (r *referee) time(names []string, fill float64) error {
	question := turn{Hold: int(fill / 100 * float64(r.ports)), Dials: r.dials}
	for i := range turns + 1 {
		for _, j := range rand.Perm(len(names)) {
			var got timing
			if err := r.processes[names[j]].Ask(question, &got); err != nil {
				return fmt.Errorf("the process of a contender failed, see its error above: %w (%s)", err, names[j])
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
