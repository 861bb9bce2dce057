package tuple_test

import (
	"fmt"
	"net/netip"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// A crawler's tenants each leave from an address of their own out of a /64, which costs no more memory than one
// address.
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

// A source that is taken out is drained: nothing new leaves from there, and what it holds lives on.
func ExamplePool_SetSources() {
	pool := tuple.Pool{Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}
	web := netip.MustParseAddrPort("198.51.100.7:443")
	before, _ := pool.TryAcquire(web)

	err := pool.SetSources(tuple.Source{Prefix: netip.MustParsePrefix("203.0.113.9/32"), Ports: alloc.RangeSet(2048, 4095)})
	after, _ := pool.TryAcquire(web)
	fmt.Println(err, before.Src().Addr(), after.Src().Addr())
	fmt.Println(pool.HeldFrom(netip.MustParsePrefix("192.0.2.1/32")), pool.Release(before))
	fmt.Println(pool.HeldFrom(netip.MustParsePrefix("192.0.2.1/32")), "are left: it may go")
	// Output:
	// <nil> 192.0.2.1 203.0.113.9
	// 1 true
	// 0 are left: it may go
}

// A driver of a sharded database connects from ports that are 3 modulo 16 to reach shard 3.
func ExamplePool_TryAcquireFor() {
	var pool tuple.Pool
	shard3 := alloc.MustParseSet("1027-65535/16")
	t, err := pool.TryAcquireFor(tuple.Request{Dst: netip.MustParseAddrPort("198.51.100.7:19042"), Ports: shard3})
	fmt.Println(t.Src().Port()%16, err)
	// Output: 3 <nil>
}

// Behind one virtual address two servers are the same to a NAT that sees only the address: no port is used to both.
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
