package tuple_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// A NAT holds a tuple while a flow lives, and lets it cool down afterwards.
func Example() {
	translate := func() error {
		p := &tuple.Pool{Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}}
		t, err := p.TryAcquire(netip.MustParseAddrPort("198.51.100.7:443"))
		if err != nil {
			return err // Is tuple.ErrExhausted
		}
		defer p.Retire(t, 2*time.Minute) // cools down for so long after its use
		fmt.Println(p.Stats().InUse, "towards", t.Dst())
		return nil
	}
	fmt.Println(translate())
	// Output:
	// 1 towards 198.51.100.7:443
	// <nil>
}

// The zero Pool leaves the source address to the operating system.
func ExamplePool() {
	var pool tuple.Pool
	t, err := pool.TryAcquire(netip.MustParseAddrPort("198.51.100.7:443"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Release(t)

	fmt.Println(t.Key(), pool.Contains(t))
	// Output: 0.0.0.0->198.51.100.7:443 true
}

// Two addresses with one port make two tuples towards each destination. A retired tuple is free after its cool-down.
func ExamplePool_Retire() {
	pool := tuple.Pool{
		Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/31")},
		Ports:   alloc.RangeSet(5000, 5000),
	}
	web := netip.MustParseAddrPort("198.51.100.7:443")

	first, _ := pool.TryAcquire(web)
	pool.TryAcquire(web)
	fmt.Println(pool.Retire(first, time.Minute))

	_, err := pool.TryAcquire(web)
	fmt.Println(errors.Is(err, tuple.ErrExhausted))
	fmt.Println(err)
	// Output:
	// true
	// true
	// no free local port (towards 198.51.100.7:443: 1 in use, 1 cooling down, next try in 1m0s)
}

// Behind a NAT, a tuple cools down for as long as the NAT remembers it. That depends on how the connection ended.
func ExamplePool_RetireAs() {
	pool := tuple.Pool{Ports: alloc.RangeSet(5000, 5000), CoolDown: tuple.AzureNAT()}
	web := netip.MustParseAddrPort("198.51.100.7:443")

	t, _ := pool.TryAcquire(web)
	pool.RetireAs(t, tuple.Reset)

	_, err := pool.TryAcquire(web)
	fmt.Println(err)
	// Output:
	// no free local port (towards 198.51.100.7:443: 0 in use, 1 cooling down, next try in 16s)
}

// If nothing is free, the tuple that was retired first is used before its cool-down has passed.
func ExamplePool_reuseRetired() {
	pool := tuple.Pool{Ports: alloc.RangeSet(5000, 5001), ReuseRetired: true}
	web := netip.MustParseAddrPort("198.51.100.7:443")

	first, _ := pool.TryAcquire(web)
	second, _ := pool.TryAcquire(web)
	pool.RetireAs(first, tuple.ActiveClose)
	pool.RetireAs(second, tuple.ActiveClose)

	t, err := pool.TryAcquire(web)
	fmt.Println(t == first, err)
	// Output: true <nil>
}

// Acquire waits until a tuple is free or its context ends.
func ExamplePool_Acquire() {
	pool := tuple.Pool{Ports: alloc.RangeSet(5000, 5000)}
	web := netip.MustParseAddrPort("198.51.100.7:443")

	t, _ := pool.TryAcquire(web)
	time.AfterFunc(10*time.Millisecond, func() { pool.Release(t) })

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	fmt.Println(pool.Acquire(ctx, web))
	// Output: 0.0.0.0:5000->198.51.100.7:443 <nil>
}

func ExampleParse() {
	t, err := tuple.Parse("192.0.2.1:49152->198.51.100.7:443")
	fmt.Println(t.Src(), t.Dst(), err)
	fmt.Println(t.Reverse())
	// Output:
	// 192.0.2.1:49152 198.51.100.7:443 <nil>
	// 198.51.100.7:443->192.0.2.1:49152
}

// No tenant may hold more than two tuples. A tenant that waits for its own quota does not hold up the others.
func ExamplePool_AcquireFor() {
	pool := tuple.Pool{MaxPerOwner: 2, MaxTuples: 10_000}
	web := netip.MustParseAddrPort("198.51.100.7:443")

	first, _ := pool.TryAcquireFor(tuple.Request{Dst: web, Owner: "tenant-7"})
	pool.TryAcquireFor(tuple.Request{Dst: web, Owner: "tenant-7"})
	_, err := pool.TryAcquireFor(tuple.Request{Dst: web, Owner: "tenant-7"})
	fmt.Println(err)
	fmt.Println(errors.Is(err, tuple.ErrQuota), errors.Is(err, tuple.ErrExhausted))

	time.AfterFunc(10*time.Millisecond, func() { pool.Release(first) })
	_, err = pool.AcquireFor(context.Background(), tuple.Request{Dst: web, Owner: "tenant-7"})
	fmt.Println(err)
	// Output:
	// the quota is used up: MaxPerOwner (towards 198.51.100.7:443: at most 2 of owner "tenant-7", 2 in use)
	// true false
	// <nil>
}

// Close makes waiters return ErrClosed. Tuples in use are given back as before.
func ExamplePool_Close() {
	pool := tuple.Pool{Ports: alloc.RangeSet(5000, 5000)}
	web := netip.MustParseAddrPort("198.51.100.7:443")

	t, _ := pool.TryAcquire(web)
	time.AfterFunc(10*time.Millisecond, func() { pool.Close() })
	_, err := pool.Acquire(context.Background(), web)
	fmt.Println(errors.Is(err, tuple.ErrClosed))
	fmt.Println(pool.Release(t))
	// Output:
	// true
	// true
}
