package tuple_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

func ExamplePool_Destinations() {
	pool := tuple.Pool{Ports: alloc.RangeSet(5000, 5099)}
	web := netip.MustParseAddrPort("198.51.100.7:443")
	for range 95 {
		pool.TryAcquire(web)
	}
	pool.TryAcquire(netip.MustParseAddrPort("198.51.100.8:443"))

	for u := range pool.Destinations() {
		if u.Free < 10 {
			fmt.Println(u.Dst, "has only", u.Free, "ports left")
		}
	}
	// Output: 198.51.100.7:443 has only 5 ports left
}

func ExamplePool_Top() {
	var pool tuple.Pool
	for i := range 1000 {
		web := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i % 250)}), 443)
		pool.TryAcquire(web)
	}
	busy := netip.MustParseAddrPort("198.51.100.7:443")
	t, _ := pool.TryAcquire(busy)
	pool.Retire(t, time.Minute)

	for _, u := range pool.Top(2) {
		fmt.Println(u.Dst, u.InUse, "in use,", u.Retired, "retired")
	}
	// Output:
	// 198.51.100.7:443 4 in use, 1 retired
	// 198.51.100.0:443 4 in use, 0 retired
}

// Two Usages tell how long the ports last if their use goes on growing as fast.
func ExampleUsage_Forecast() {
	pool := tuple.Pool{Ports: alloc.RangeSet(5000, 5099)}
	web := netip.MustParseAddrPort("198.51.100.7:443")
	earlier := pool.Usage(web)
	for range 90 {
		pool.TryAcquire(web)
	}

	if left, ok := pool.Usage(web).Forecast(earlier); ok && left < time.Minute {
		fmt.Println("soon exhausted")
	}
	// Output: soon exhausted
}
