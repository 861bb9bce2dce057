package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// samples are outputs of the parts, shortened. Some have two rounds.
var samples = map[string]string{
	"alloc": `
BenchmarkAcquireRelease/impl=ephemera/fill=0/order=own/goroutines=1-2	100	40.0 ns/op
BenchmarkAcquireRelease/impl=nextclear/fill=0/order=own/goroutines=1-2	100	20.0 ns/op
BenchmarkAcquireRelease/impl=none/fill=0/order=own/goroutines=1-2	100	2.0 ns/op
BenchmarkAcquireRelease/impl=ephemera/fill=99/order=random/goroutines=1-2	100	30.0 ns/op
BenchmarkAcquireRelease/impl=nextclear/fill=99/order=random/goroutines=1-2	100	60.0 ns/op
BenchmarkFull/impl=ephemera/goroutines=1-2	100	20.0 ns/op
PASS
BenchmarkAcquireRelease/impl=ephemera/fill=0/order=own/goroutines=1-2	100	80.0 ns/op
BenchmarkAcquireRelease/impl=nextclear/fill=0/order=own/goroutines=1-2	100	20.0 ns/op
`,
	"tuple": `
BenchmarkAcquireRelease/impl=ephemera/destinations=1000/goroutines=2-2	100	150 ns/op
BenchmarkAcquireRelease/impl=ephemera-any/destinations=1000/goroutines=2-2	100	1 ns/op
BenchmarkAcquireRelease/impl=rwmap/destinations=1000/goroutines=2-2	100	300 ns/op
BenchmarkAcquireRelease/impl=xsync/destinations=1000/goroutines=2-2	100	100 ns/op
BenchmarkAcquireRelease/impl=none/destinations=1000/goroutines=2-2	100	3 ns/op
BenchmarkContains/impl=ephemera/destinations=1/goroutines=1/writes=10-2	100	20 ns/op
BenchmarkContains/impl=shardmap/destinations=1/goroutines=1/writes=10-2	100	40 ns/op
`,
	"memory": `
BenchmarkMemory/impl=ephemera/family=ipv4/shape=sparse-2	1	49.82 B/tuple	-0.02 left-B/tuple
BenchmarkMemory/impl=xsync/family=ipv4/shape=sparse-2	1	99.64 B/tuple	0 left-B/tuple
BenchmarkMemory/impl=ephemera/family=ipv4/shape=dense-2	1	0.15 B/tuple	0 left-B/tuple
`,
	"dial": `
BenchmarkDial/impl=net/ports=28232/held=50 	590	395868 p50-ns	739708 p99-ns	400000 cpu-ns
BenchmarkDial/impl=range/ports=28232/held=0 	590	30000 p50-ns	315046 p99-ns	20000 cpu-ns
BenchmarkDial/impl=range/ports=28232/held=50 	590	32989 p50-ns	315046 p99-ns	20000 cpu-ns
BenchmarkDial/impl=range/ports=28232/held=99.9 	590	33000 p50-ns	315046 p99-ns	20000 cpu-ns
BenchmarkDial/impl=bind/ports=64512/held=99.9 	590	36000 p50-ns	315046 p99-ns	20000 cpu-ns
BenchmarkDialExhausted/impl=net/ports=28232 	590	390000 p50-ns	739708 p99-ns	400000 cpu-ns
BenchmarkDialExhausted/impl=range/ports=28232 	590	390 p50-ns	739 p99-ns	400 cpu-ns
`,
	"churn": `
tcp_max_tw_buckets: 1000000
BenchmarkChurn/impl=net/net=lo/reuse=2/upstreams=1/source=no/ports=28232 	` +
		`300	10.0 dials/s	0 failed	0.0 failed/s	50000 p50-ns	90000 p99-ns	60000 cpu-ns	1.000 of-net
BenchmarkChurn/impl=zero/net=lo/reuse=2/upstreams=1/source=no/ports=28232 	` +
		`150	5.0 dials/s	70 failed	2.3 failed/s	40000 p50-ns	80000 p99-ns	30000 cpu-ns	0.500 of-net
BenchmarkChurn/impl=noport/net=veth/reuse=0/upstreams=20/source=yes/ports=500 	` +
		`40	10.0 dials/s	8 failed	2.0 failed/s	50000 p50-ns	90000 p99-ns	60000 cpu-ns	1.000 of-net
BenchmarkChurn/impl=pool/net=veth/reuse=0/upstreams=20/source=yes/ports=500 	` +
		`44	11.0 dials/s	9 failed	2.3 failed/s	50000 p50-ns	90000 p99-ns	60000 cpu-ns	1.100 of-net
`,
	"cost": `
BenchmarkCost/impl=net/protocol=tcp 	1000	60000 ns/op	50000 p50-ns	50000 cpu-ns 712 B/op 17 allocs/op
BenchmarkCost/impl=net/protocol=tcp 	1000	60000 ns/op	40000 p50-ns	50000 cpu-ns 712 B/op 17 allocs/op
BenchmarkCost/impl=tracker/protocol=tcp 	1000	66000 ns/op	55000 p50-ns	60000 cpu-ns 1424 B/op 34 allocs/op
BenchmarkCost/impl=tracker/protocol=tcp 	1000	66000 ns/op	44000 p50-ns	60000 cpu-ns 1424 B/op 34 allocs/op
BenchmarkCost/impl=net/protocol=udp 	1000	10000 ns/op	10000 p50-ns	10000 cpu-ns 692 B/op 15 allocs/op
BenchmarkCost/impl=pool/protocol=udp 	1000	20000 ns/op	20000 p50-ns	21000 cpu-ns 1384 B/op 30 allocs/op
tracker ÷ net, tcp: mean 1.100, p50 1.100, CPU 1.200, bytes 2.00, mallocs 2.00
`,
	"beyond": `
connections                   65,537  ESTABLISHED in the kernel; each echoed
memory                       759 MiB  12,149 bytes each: both ends and the kernel
BenchmarkBeyond/impl=ephemera 	1	65537 connections	27346 local-ports	4.83 seconds
BenchmarkBeyond/impl=net 	1	28232 connections	28232 local-ports	47.59 seconds
`,
	"million": `
BenchmarkBeyond/impl=ephemera 	1	999999 connections	27346 local-ports	120 seconds
`,
	"scale": `
BenchmarkSparseIPv4/destinations=1000000 	1000000	527.5 ns/acquire	311.7 ns/op	140.5 ns/contains	` +
		`12.5 p99.99-us	5989 longest-us	4321 longest-cpu-us	3 over-1ms	0 over-1ms-cpu	49.812 B/tuple
`,
}

// sampled reads the samples. Each was measured at the commit abc, unless commits has another one.
func sampled(t *testing.T, commits map[string]string) map[string]figures {
	all := map[string]figures{}
	for name, text := range samples {
		commit := "abc"
		if other, ok := commits[name]; ok {
			commit = other
		}
		path := filepath.Join(t.TempDir(), "part.txt")
		text = "commit: " + commit + "\ngo: go1.26\nkernel: Linux 6\n" +
			"cpu: Some CPU  \ncores: 2\ndate: 1 May 2026\n" + text
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		f, err := read(path)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = f
	}
	return all
}

func rendered(t *testing.T, all map[string]figures) string {
	text, charts, err := render(all)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range charts {
		if _, err := c.plot.WriterTo(100, 100, "svg"); err != nil {
			t.Errorf("%s: %v", c.file, err)
		}
	}
	return text
}

func TestRenderShowsEachPart(t *testing.T) {
	text := rendered(t, sampled(t, nil))
	for _, want := range []string{
		"\nSome CPU, 2 cores; Linux 6; go1.26; commit abc; 1 May 2026.\n",

		"\n## alloc\n\n2 rounds of\n\n    go test ",
		"| in use | ephemera | bitset.NextClear, mutex | the empty loop |\n",
		"| 0 % | 60.0 | 20.0 (0.38×) | 2.00 |\n", // 20/40 in one round, 20/80 in the other
		"| 99 % | 30.0 | 60.0 (2.00×) |\n",
		"| all: the answer | 20.0 |  |  |\n",
		"![Acquire + release of one of 64,512 ports](plots/alloc.svg)",

		"| 1,000 destinations, 2 goroutines | 150 | 1.00 (0.01×) | 300 (2.00×) | 100 (0.67×) | 3.00 |\n",
		"| 1 destination, 1 goroutine, 10 % writes | 20.0 | 40.0 (2.00×) |\n",
		"| 1,000,000 destinations, ipv4, left after release | -0.02 | 0 |\n",
		"![Live heap per destination of one tuple, of 1,000,000](plots/memory.svg)",

		"### 28,232 ports: from socket to established on loopback, p50, µs\n",
		"| 50 % | 33.0 | 396 (12.0×) |\n",
		"| all: the error | 0.39 | 390 (1,000×) |\n",
		"| held | ephemera, bound ports |\n|---|---|\n| 99.9 % | 36.0 |\n",
		"(plots/dial.svg)", "(plots/dial-64512.svg)",

		"\n## churn\n\n1 round of\n\n    go run ./bench/churn -rounds 1 -for 4s -ports 40000-40499\n" +
			"    go run ./bench/churn ",
		"### without a source address: dials a second that succeed\n\n| where | ephemera | net.Dialer |\n",
		"| 28,232 ports, lo, tcp_tw_reuse 2, 1 destination | 5.00 | 10.0 (2.00×) |\n",
		"| 28,232 ports, lo, tcp_tw_reuse 2, 1 destination | 2.30 | 0 (0×) |\n",
		"| 500 ports, veth, tcp_tw_reuse 0, 20 destinations | 11.0 | 10.0 (0.91×) |\n",
		"| where | ephemera | net.Dialer, LocalAddr, NO_PORT |\n",

		"\n## cost\n\n2 rounds of\n\n    go run ./bench/cost\n",
		"| cost of one | ephemera, Tracker | net.Dialer |\n",
		"| time, median, ns | 49,500 | 45,000 |\n", "| allocations | 34.0 | 17.0 |\n",

		"| net.Dialer, LocalAddr | 28,232 | 28,232 | 47.6 |\n",
		"| 1,000,000 IPv4 destinations of one tuple | 528 | 12.5 | 5,989 | 4,321 | 3 | 0 | 312 | 140 | 49.8 |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

func TestBarsJudgeTheMedianOfTheRounds(t *testing.T) {
	text := rendered(t, sampled(t, nil))
	for _, want := range []string{
		"| alloc ÷ NextClear at 0 % | ≤ 1.50 | 3.00 | 2.50 – 3.50 | 2 | **missed** |",
		"| alloc ÷ NextClear at 99 %, random ports in use | ≤ 1.00 | 0.50 |  | 1 | met |",
		"| alloc ÷ NextClear at 50 % | ≤ 1.50 |  |  | 0 | not measured |",
		"| alloc: the slowest fill ÷ the fastest | ≤ 1.50 |  |  | 0 | not measured |", // there is only one fill
		"| tuple: acquire + release over 1,000 destinations, 2 goroutines ÷ the fastest other, xsync.Map " +
			"| ≤ 1.00 | 1.50 |  | 1 | **missed** |",
		"| tuple: Contains over 1 destination, 1 goroutine, 10 % writes ÷ the fastest other, sharded map " +
			"| ≤ 1.00 | 0.50 |  | 1 | met |",
		"| memory: bits per tuple of a full destination | ≤ 1.30 | 1.20 |  | 1 | met |",
		"| dial: p50 at 99.9 % ÷ at 0 % | ≤ 1.20 | 1.10 |  | 1 | met |",
		"| dial: net.Dialer ÷ ephemera at 50 % | ≥ 30.0 | 12.0 |  | 1 | **missed** |",
		"| dial: error if nothing is free, net.Dialer ÷ ephemera | ≥ 1,000 | 1,000 |  | 1 | met |",
		"| churn: dials ÷ net.Dialer, 28,232 ports, lo, tcp_tw_reuse 2, 1 destination " +
			"| ≥ 1.00 | 0.50 |  | 1 | **missed** |",
		"| churn: dials ÷ net.Dialer, LocalAddr, NO_PORT, 500 ports, veth, tcp_tw_reuse 0, 20 destinations " +
			"| ≥ 1.00 | 1.10 |  | 1 | met |",
		"| churn: dials ÷ net.Dialer, 500 ports, lo, tcp_tw_reuse 0, 1 destination | ≥ 1.00 |  |  | 0 | not measured |",
		// 9 more failed in a situation in which some of net.Dialer's failed too.
		"| churn: dials that fail if all of net.Dialer's succeed | ≤ 0 | 70.0 |  | 1 | **missed** |",
		"| cost: ephemera, Tracker ÷ net.Dialer, tcp, p50 | ≤ 1.15 | 1.10 | 1.10 – 1.10 | 2 | met |",
		"| cost: ephemera, Tracker ÷ net.Dialer, tcp, processor time | ≤ 1.15 | 1.20 | 1.20 – 1.20 | 2 | **missed** |",
		"| cost: ephemera, source ÷ net.Dialer, LocalAddr, tcp, p50 | ≤ 1.08 |  |  | 0 | not measured |",
		"| cost: ephemera, source ÷ net.Dialer, udp, p50 | ≤ 2.00 | 2.00 |  | 1 | met |",
		"| cost: ephemera, source ÷ net.Dialer, udp, processor time | ≤ 2.00 | 2.10 |  | 1 | **missed** |",
		"| beyond: connections from one source address | ≥ 65,537 | 65,537 |  | 1 | met |",
		"| beyond: the same with -n 1000000 | ≥ 1,000,000 | 999,999 |  | 1 | **missed** |",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

// The table shows three digits. The verdict depends on the exact figure.
func TestABarIsNotRoundedIntoBeingMet(t *testing.T) {
	if v := atMost("x", 1.5, []float64{1.504}).verdict(); v != "**missed**" {
		t.Error(v)
	}
}

func TestOfNothingAllBarsAreNotMeasured(t *testing.T) {
	text := rendered(t, map[string]figures{})
	if strings.Contains(text, "| met |") || strings.Contains(text, "missed") || strings.Contains(text, "NaN") {
		t.Error(text)
	}
	for _, p := range parts {
		if p.bars != nil && !strings.Contains(text, "| "+strings.Replace(p.name, "million", "beyond", 1)) {
			t.Errorf("%s has no bar in:\n%s", p.name, text)
		}
	}
}

func TestHeadNamesTheCommitOfEachPartIfTheyDiffer(t *testing.T) {
	text := rendered(t, sampled(t, map[string]string{"dial": "def with changes"}))
	for _, want := range []string{
		"| alloc | Some CPU, 2 cores | Linux 6 | go1.26 | commit abc | 1 May 2026 |\n",
		"| dial | Some CPU, 2 cores | Linux 6 | go1.26 | commit def with changes | 1 May 2026 |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

func TestQuantileInterpolates(t *testing.T) {
	values := []float64{4, 1, 3, 2}
	for q, want := range map[float64]float64{0: 1, 0.25: 1.75, 0.5: 2.5, 0.75: 3.25, 1: 4} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile(%v, %v) = %v, want %v", values, q, got, want)
		}
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("without values: %v", got)
	}
}

func TestBeyondLineReadsTheTableOfTheCommand(t *testing.T) {
	printed := `connections                   65,537  ESTABLISHED in the kernel; each echoed
source addresses                   1  127.0.0.1
distinct local ports          27,361  of the 65,535 of one address
destinations                       4  127.0.1.1:31596 127.0.1.2:27048 …
seconds                         5.00  until the last was open
connections/s                 13,107
`
	line, err := beyondLine("ephemera", printed)
	want := "BenchmarkBeyond/impl=ephemera \t1\t65537 connections\t27361 local-ports\t5.00 seconds\n"
	if line != want || err != nil {
		t.Errorf("%q, %v", line, err)
	}
	if _, err := beyondLine("ephemera", "connections/s  13,107\n"); err == nil {
		t.Error("a rate was read as connections")
	}
}

// A part that fails keeps the old figures, and its output in a file beside them.
func TestNothingIsLostWhenAPartFails(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.MkdirAll(raw, 0o777); err != nil {
		t.Fatal(err)
	}
	round, fail := 0, 0
	p := part{name: "x", round: func(_ string, out io.Writer) error {
		round++
		fmt.Fprintf(out, "round %d\n", round)
		if round == fail {
			return errors.New("broken")
		}
		return nil
	}}
	contains := func(path, want string, unwanted bool) {
		t.Helper()
		text, _ := os.ReadFile(path)
		if strings.Contains(string(text), want) == unwanted {
			t.Errorf("%s: %q", path, text)
		}
	}
	if err := p.measure("", 2); err != nil {
		t.Fatal(err)
	}
	contains(raw+"x.txt", "round 1\nround 2\n", false)

	fail = 4
	if err := p.measure("", 3); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Fatal(err)
	}
	contains(raw+"x.txt", "round 1\nround 2\n", false)
	contains(raw+"x.txt", "round 3", true)
	contains(raw+"x.txt.new", "round 3\nround 4\n", false)
}

func TestOnlyTheNamedPartsRun(t *testing.T) {
	for only, want := range map[string]string{
		"all":  "alloc tuple memory dial churn cost beyond scale",
		"none": "", "alloc,dial": "alloc dial", "million": "million", "nonsense": "error",
	} {
		chosen, err := choose(only)
		var got []string
		for _, p := range chosen {
			got = append(got, p.name)
		}
		if err != nil {
			got = []string{"error"}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("-only %s: %v, %v", only, got, err)
		}
	}
}

func TestHumanGroupsThousands(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.123: "0.12", 9.876: "9.88", 12.34: "12.3",
		1234.4: "1,234", 123456: "123,456", 1e9: "1,000,000,000", -2000: "-2,000",
	} {
		if got := human(v); got != want {
			t.Errorf("human(%v) = %q, want %q", v, got, want)
		}
	}
}
