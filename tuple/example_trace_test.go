package tuple_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// A Trace runs hooks when something happens to a tuple.
func ExampleTrace() {
	pool := tuple.Pool{
		Ports: alloc.RangeSet(5000, 5000),
		Trace: &tuple.Trace{
			Acquired:  func(t tuple.Tuple, waited time.Duration) { fmt.Println("acquired", t, "after", waited) },
			Exhausted: func(dst netip.AddrPort, err error) { fmt.Println(err) },
		},
	}
	web := netip.MustParseAddrPort("198.51.100.7:443")
	pool.TryAcquire(web)
	pool.TryAcquire(web)
	// Output:
	// acquired 0.0.0.0:5000->198.51.100.7:443 after 0s
	// no free local port (towards 198.51.100.7:443: 1 in use)
}
