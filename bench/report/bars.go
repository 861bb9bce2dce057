package main

import (
	"fmt"
	"math"
)

// bar is what a figure should be, and whether it is.
type bar struct {
	what, bound string
	value       float64
	met         bool
}

func (b bar) row() string {
	verdict := "met"
	if !b.met {
		verdict = "**missed**"
	}
	if math.IsNaN(b.value) {
		verdict = "not measured"
	}
	return fmt.Sprintf("| %s | %s | %s | %s |\n", b.what, b.bound, human(b.value), verdict)
}

func atMost(what string, value, most float64) bar {
	return bar{what, "≤ " + human(most), value, value <= most}
}

func atLeast(what string, value, least float64) bar {
	return bar{what, "≥ " + human(least), value, value >= least}
}

// bars are the figures that the design demands, each a ratio within one run.
func bars(all map[string]figures) []bar {
	ratio := func(f figures, unit, over, under string) float64 {
		return f.medianOrNaN(over, unit) / f.medianOrNaN(under, unit)
	}
	alloc := func(c, fill string) string { return "AcquireRelease/impl=" + c + "/fill=" + fill + "/goroutines=1" }
	dial := func(c, fill string) string { return "Dial/held=" + fill + "/impl=" + c }
	a, d, m := all["alloc"], all["dial"], all["memory"]
	var list []bar

	low, high := math.Inf(1), math.NaN()
	for _, fill := range fills {
		if v, ok := a.median(alloc("ephemera", fill), "ns/op"); ok {
			low = min(low, v)
			if !(v <= high) { // also of NaN, which min and max would keep
				high = v
			}
		}
	}
	for _, fill := range []string{"0", "50", "90"} {
		list = append(list, atMost("alloc at "+fill+" % ÷ NextClear", ratio(a, "ns/op", alloc("ephemera", fill), alloc("nextclear", fill)), 1.5))
	}
	for _, fill := range []string{"99", "99.9", "99.99"} {
		list = append(list, atMost("alloc at "+fill+" % ÷ NextClear", ratio(a, "ns/op", alloc("ephemera", fill), alloc("nextclear", fill)), 1))
	}
	list = append(
		list,
		atMost("alloc: slowest fill ÷ fastest", high/low, 1.5),
		atLeast("alloc: gVisor ÷ ephemera, empty", ratio(a, "ns/op", alloc("gvisor", "0"), alloc("ephemera", "0")), 20),
		atLeast("alloc: gVisor ÷ ephemera at 99.9 %", ratio(a, "ns/op", alloc("gvisor", "99.9"), alloc("ephemera", "99.9")), 100_000),
	)
	for _, n := range []string{"1", "1000", "1000000"} {
		for _, g := range []string{"1", "2"} {
			names := []string{"AcquireRelease/impl=%s/destinations=" + n + "/goroutines=" + g}
			for _, w := range []string{"0", "10", "50"} {
				names = append(names, "Contains/impl=%s/destinations="+n+"/goroutines="+g+"/writes="+w)
			}
			for i, name := range names {
				best := math.NaN()
				for _, peer := range []string{"rwmap", "syncmap", "xsync", "gvisor"} {
					r := ratio(all["tuple"], "ns/op", fmt.Sprintf(name, "ephemera"), fmt.Sprintf(name, peer))
					if !math.IsNaN(r) && !(r <= best) {
						best = r
					}
				}
				what := "acquire + release"
				if i > 0 {
					what = "Contains, " + []string{"0", "10", "50"}[i-1] + " % writes"
				}
				list = append(list, atMost(fmt.Sprintf("tuple: %s, %s destinations, %s goroutines ÷ the fastest peer", what, thousands(n), g), best, 1))
			}
		}
	}
	for _, bound := range []struct {
		family string
		most   float64
	}{{"ipv4", 96}, {"ipv6", 128}} {
		v := m.medianOrNaN("Memory/impl=ephemera/family="+bound.family+"/shape=sparse", "B/tuple")
		list = append(list, atMost("memory: bytes per destination of one tuple, "+bound.family, v, bound.most))
	}
	bits := 8 * m.medianOrNaN("Memory/impl=ephemera/family=ipv4/shape=dense", "B/tuple")
	list = append(list, atMost("memory: bits per tuple of a full destination", bits, 1.3))

	list = append(list, atMost("dial: p50 at 99.9 % ÷ at 0 %", ratio(d, "p50-ns", dial("range", "99.9"), dial("range", "0")), 1.2))
	list = append(list, atMost("dial at 0 % ÷ net.Dialer", ratio(d, "p50-ns", dial("range", "0"), dial("net", "0")), 1.1))
	for _, fill := range []string{"50", "80", "90", "99", "99.9"} {
		list = append(list, atLeast("dial: net.Dialer ÷ ephemera at "+fill+" %", ratio(d, "p50-ns", dial("net", fill), dial("range", fill)), 30))
	}
	for _, fill := range []string{"0", "50", "80", "90", "99", "99.9"} {
		list = append(list, atMost("dial at "+fill+" % ÷ the whole-range IP_LOCAL_PORT_RANGE", ratio(d, "p50-ns", dial("range", fill), dial("oneliner", fill)), 1.05))
	}
	return append(list, atLeast("finding nothing free: net.Dialer ÷ ephemera", ratio(d, "p50-ns", "DialExhausted/impl=net", "DialExhausted/impl=range"), 1000))
}
