// Package tuple allocates 4-tuples: source address, source port, destination address and destination port.
//
// The four numbers together name a connection, so one source port can serve every destination at once. A [Pool] hands
// out free tuples towards a destination: it chooses the source address and the source port. The package opens no
// sockets, so a NAT or a network stack in user space can use it. Package dialer opens connections with it.
//
//	p := &tuple.Pool{Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}}
//	t, err := p.TryAcquire(netip.MustParseAddrPort("198.51.100.7:443"))
//	if err != nil {
//		return err // Is tuple.ErrExhausted
//	}
//	defer p.Retire(t, 2*time.Minute) // cools down for so long after its use
//
// A [Tuple] is free, in use, retired or taken. [Pool.TryAcquire] and [Pool.Reserve] take a free tuple into use.
// [Pool.Release] frees it at once. [Pool.Retire] lets it cool down first. A tuple is taken if others have it, such as
// another process; only package dialer finds that out. A [Key] is a Tuple without its source port: it names the port
// space of one source towards one destination.
//
// # Sources and policies
//
// [Pool.Sources] are IPv4 and IPv6 prefixes to send from. [Pool.Policy] chooses among the addresses that have a free
// port: in turn, the least used, always the same for a destination or an owner, or at random. Without Sources the
// operating system picks the source address. A [Request] asks [Pool.TryAcquireFor] for one source or for certain ports.
//
// # Waiting
//
// [Pool.TryAcquire] fails at once if no tuple is free. [Pool.Acquire] waits for one until its context ends. Waiters
// stand in a line for each destination and are served in order. [Pool.MaxWaiters] limits the line. The error is an
// [*ExhaustedError], which counts what is in the way.
//
// # Quotas and owners
//
// [Pool.MaxTuples], [Pool.MaxPerDestination] and [Pool.MaxPerOwner] are quotas. [Request.Owner] names the owner of a
// tuple, such as a crawler's tenant. An owner who waits for its own quota does not hold up the others. If a quota is
// used up, the error is a [*QuotaError].
//
// # Cool-down and endings
//
// A tuple should not be used again while the peer, a NAT or the kernel remembers the connection (TIME_WAIT).
// [Pool.RetireAs] chooses the cool-down by the [Ending] of the connection, as [Pool.CoolDown] says. [AzureNAT] and
// [RFC6888] return cool-downs for a host behind a NAT and for a carrier-grade NAT. With [Pool.ReuseRetired], a pool
// reuses a tuple early instead of failing.
//
// # Changing sources
//
// [Pool.SetSources] replaces the sources while the Pool is in use. What is held from an old source stays held until it
// is given back. [Pool.HeldFrom] tells when nothing is left. [Pool.Close] ends all acquires and all waiting.
//
// # Watching a pool
//
// [Pool.Stats] counts the whole Pool, [Pool.Usage] one destination. [Pool.Destinations], [Pool.Top] and [Pool.All] list
// what is held. [Usage.Forecast] estimates when a destination runs out of tuples. [Pool.Trace] runs hooks when tuples
// change hands.
//
// # Configuration from text
//
// [Policy], [CoolDown], [Prefixes] and alloc.Set have text forms. A struct of them can be read from JSON, YAML and
// flags, and written back:
//
//	type Config struct {
//		Sources  tuple.Prefixes // "192.0.2.1,2001:db8::/64"
//		Ports    alloc.Set      // "1024-65535,!8080"
//		Policy   tuple.Policy   // "least-used"
//		CoolDown tuple.CoolDown // "active-close=30s,reset=16s"
//	}
package tuple
