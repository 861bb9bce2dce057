// Scale measures a tuple.Pool that holds very many tuples: a billion towards full destinations, and one towards each of
// ten million destinations.
//
//	go run ./bench/scale
//	go run ./bench/scale -tuples 100000000 -destinations 1000000
//
// At each power of ten it prints, in the format of Go benchmarks, the cost of an acquire on the way, the cost of an
// acquire and release and of a Contains there, and the live heap. A billion takes some minutes and 1 GiB.
//
// It also prints the 99.99th percentile of the acquires on the way, the longest, and how many took more than 1 ms. The
// figures with cpu in the unit (Linux only) count only the time that the thread was on a processor, without the
// scheduler and the collector's pauses. What remains is the cost to grow a table, and the work that the collector makes
// the caller do. GOGC=off leaves out the latter.
package main

import (
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"time"

	"github.com/ephemera-go/ephemera/internal/liveheap"
	"github.com/ephemera-go/ephemera/tuple"
)

const (
	firstPort = 1024
	ports     = 64512 // as many as the zero Pool hands out
	probes    = 200_000
)

func main() {
	log.SetFlags(0)
	tuples := flag.Int("tuples", 1_000_000_000, "tuples towards full destinations")
	destinations := flag.Int("destinations", 10_000_000, "destinations of one tuple each")
	flag.Parse()
	fmt.Printf("goos: %s\ngoarch: %s\ngo: %s\npkg: github.com/ephemera-go/ephemera/bench/scale\n",
		runtime.GOOS, runtime.GOARCH, runtime.Version())
	grow("Full", "tuples", *tuples, ports, dst4)
	grow("SparseIPv4", "destinations", *destinations, 1, dst4)
	grow("SparseIPv6", "destinations", *destinations, 1, dst6)
}

func dst4(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 443)
}

func dst6(i int) netip.AddrPort {
	a := netip.MustParseAddr("2001:db8::").As16()
	a[12], a[13], a[14], a[15] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
	return netip.AddrPortFrom(netip.AddrFrom16(a), 443)
}

// grow acquires total tuples and measures at each power of ten. It fills one destination after the other with perDst
// tuples.
func grow(name, unit string, total, perDst int, dst func(i int) netip.AddrPort) {
	p := new(tuple.Pool)
	p.Stats()         // makes the tables of the Pool
	var held []uint16 // the port of each destination of one tuple; a full destination holds all ports
	if perDst == 1 {
		held = make([]uint16, total)
	}
	watch := &stopwatch{thread: threadTime}
	empty := liveheap.Bytes()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := time.Now()
	watch.begin(began)
	before, step := 0, min(total, 1_000_000)
	for n := 1; n <= total; n++ {
		var start time.Time
		timed := n%64 == 0 || perDst == 1 // towards full destinations, the clock would take half of the time
		if timed {
			start = time.Now()
		}
		t, err := p.TryAcquire(dst((n - 1) / perDst))
		if err != nil {
			log.Fatalf("scale: cannot acquire a tuple: %v (after %d)", err, n-1)
		}
		if perDst == 1 {
			held[n-1] = t.Src().Port()
		}
		if timed {
			watch.add(start, time.Now())
		}
		if n != step {
			continue
		}
		each := float64(time.Since(began)) / float64(n-before)
		bytes := liveheap.Bytes() - empty
		fmt.Printf("Benchmark%s/%s=%d \t%d\t%.1f ns/acquire\t%.1f ns/op\t%.1f ns/contains\t%s\t%.3f B/tuple\n",
			name, unit, n, n-before, each, cycle(p, n, perDst, dst), contains(p, n, perDst, dst), watch,
			float64(bytes)/float64(n))
		before, step = n, min(total, 10*step)
		began = time.Now()
		*watch = stopwatch{thread: threadTime}
		watch.begin(began)
	}
	release(p, total, perDst, held, dst)
	fmt.Printf("Benchmark%sReleased/%s=%d \t1\t%d left-B\n", name, unit, total, liveheap.Bytes()-empty)
	runtime.KeepAlive(p)
	runtime.KeepAlive(held)
}

// cycle returns the cost of an acquire and release towards random destinations, in ns. In a full destination it first
// releases ports.
func cycle(p *tuple.Pool, n, perDst int, dst func(i int) netip.AddrPort) float64 {
	dsts := make([]netip.AddrPort, probes)
	for i := range dsts {
		dsts[i] = dst(rand.IntN(max(1, n/perDst)))
		if perDst > 1 {
			p.Release(tupleTo(dsts[i], firstPort+rand.IntN(ports)))
		}
	}
	start := time.Now()
	for _, d := range dsts {
		if t, err := p.TryAcquire(d); err == nil {
			p.Release(t)
		}
	}
	each := float64(time.Since(start)) / probes
	if perDst > 1 { // fill them again
		for _, d := range dsts {
			p.TryAcquire(d)
		}
	}
	return each
}

// contains returns the cost of a lookup of a random tuple towards one of the destinations, in ns.
func contains(p *tuple.Pool, n, perDst int, dst func(i int) netip.AddrPort) float64 {
	of := make([]tuple.Tuple, probes)
	for i := range of {
		of[i] = tupleTo(dst(rand.IntN(max(1, n/perDst))), firstPort+rand.IntN(ports))
	}
	start := time.Now()
	for _, t := range of {
		p.Contains(t)
	}
	return float64(time.Since(start)) / probes
}

func tupleTo(dst netip.AddrPort, port int) tuple.Tuple {
	src := netip.IPv4Unspecified()
	if dst.Addr().Is6() {
		src = netip.IPv6Unspecified()
	}
	return tuple.From(netip.AddrPortFrom(src, uint16(port)), dst)
}

// release releases all tuples of p: the port in held for each destination of one tuple, every port of a full one.
func release(p *tuple.Pool, total, perDst int, held []uint16, dst func(i int) netip.AddrPort) {
	for i := range (total + perDst - 1) / perDst {
		if perDst == 1 {
			p.Release(tupleTo(dst(i), int(held[i])))
			continue
		}
		for port := range ports {
			p.Release(tupleTo(dst(i), firstPort+port))
		}
	}
	if s := p.Stats(); s != (tuple.Stats{}) {
		log.Fatalf("scale: the pool still holds something after everything was released (%+v)", s)
	}
}
