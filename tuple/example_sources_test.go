package tuple_test

import (
	"fmt"
	"net/netip"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// Each tenant of a crawler has a source address of its own from a /64. The /64 takes no more memory than one address.
func ExampleStickyOwner() {
	pool := tuple.Pool{
		Sources: []netip.Prefix{netip.MustParsePrefix("2001:db8:0:1::/64")},
		Policy:  tuple.StickyOwner,
	}
	acme := tuple.Request{Dst: netip.MustParseAddrPort("[2001:db8:f::1]:443"), Owner: "acme"}
	first, _ := pool.TryAcquireFor(acme)
	acme.Dst = netip.MustParseAddrPort("[2001:db8:f::2]:443")
	second, _ := pool.TryAcquireFor(acme)
	fmt.Println(first.Src().Addr() == second.Src().Addr())
	// Output: true
}

// A source that SetSources removes is drained: it hands out nothing, and keeps the tuples that it holds.
func ExamplePool_SetSources() {
	pool := tuple.Pool{Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}
	web := netip.MustParseAddrPort("198.51.100.7:443")
	before, _ := pool.TryAcquire(web)

	err := pool.SetSources(tuple.Source{
		Prefix: netip.MustParsePrefix("203.0.113.9/32"),
		Ports:  alloc.RangeSet(2048, 4095),
	})
	after, _ := pool.TryAcquire(web)
	fmt.Println(err, before.Src().Addr(), after.Src().Addr())
	fmt.Println(pool.HeldFrom(netip.MustParsePrefix("192.0.2.1/32")), pool.Release(before))
	fmt.Println(pool.HeldFrom(netip.MustParsePrefix("192.0.2.1/32")), "are left: remove the address")
	// Output:
	// <nil> 192.0.2.1 203.0.113.9
	// 1 true
	// 0 are left: remove the address
}

// A driver of a sharded database reaches shard 3 from source ports that are 3 modulo 16.
func ExamplePool_TryAcquireFor() {
	var pool tuple.Pool
	shard3 := alloc.MustParseSet("1027-65535/16")
	t, err := pool.TryAcquireFor(tuple.Request{Dst: netip.MustParseAddrPort("198.51.100.7:19042"), Ports: shard3})
	fmt.Println(t.Src().Port()%16, err)
	// Output: 3 <nil>
}

// Two servers behind one virtual address look the same on the wire, so they share one port space.
func ExamplePool_scope() {
	pool := tuple.Pool{
		Ports: alloc.RangeSet(5000, 5000),
		Scope: func(dst netip.AddrPort) netip.AddrPort { return netip.MustParseAddrPort("198.51.100.100:443") },
	}
	t, err := pool.TryAcquire(netip.MustParseAddrPort("198.51.100.1:443"))
	fmt.Println(t.Dst(), err)
	_, err = pool.TryAcquire(netip.MustParseAddrPort("198.51.100.2:443"))
	fmt.Println(err)
	// Output:
	// 198.51.100.1:443 <nil>
	// no free local port (towards 198.51.100.2:443: 1 in use)
}
