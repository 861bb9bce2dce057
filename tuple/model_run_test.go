package tuple_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

var modelSources = []struct {
	name string
	list []string
}{
	{"any", nil},
	{"one", []string{"192.0.2.1/32"}},
	{"one of IPv6", []string{"2001:db8::1/128"}},
	{"several", []string{"192.0.2.7/32", "192.0.2.1/32", "2001:db8::1/128", "203.0.113.9/32", "2001:db8::9/128"}},
	{"overlapping", []string{
		"192.0.2.0/30", "192.0.2.2/31", "192.0.2.1/32", "192.0.2.4/32", "192.0.2.0/30", "2001:db8::2/127", "2001:db8::/126",
	}},
	{"mapped", []string{"::ffff:192.0.2.8/126", "192.0.2.9/32"}},
	{"unmasked", []string{"192.0.2.77/31", "2001:db8::77/125"}},
	{"24 bits", []string{"192.0.2.0/24"}},
	{"64 bits", []string{"2001:db8:0:1::/64"}},
	{"mixed", []string{"2001:db8::8/127", "2001:db8:0:1::/64", "2001:db8:0:2::4/128", "192.0.2.1/32"}},
}

// Bits take over from a list at 65 ports.
var modelPorts = [][]uint16{{65535}, {1, 5000, 60000}, portList(2000, 70, 7), portList(1030, 200, 3)}

var modelDsts = []string{
	"198.51.100.1:443", "[2001:db8:f::1]:443", "[::ffff:198.51.100.1]:443", "198.51.100.1:80", "[fe80::1%eth0]:443", "198.51.100.2:443",
}

// Strangers to every pool of the test, or at the edges of one: just past a prefix, past the bound of a /64, where an
// offset that wraps would land on another source.
var strangers = []string{
	"192.0.1.255", "192.0.2.5", "192.0.2.12", "192.0.3.0", "203.0.113.8", "10.0.0.1", "0.0.0.0", "::", "2001:db8::", "2001:db8::3",
	"2001:db8::4", "2001:db8::a", "2001:db8:0:1:0:ffff:ffff:ffff", "2001:db8:0:1:1::", "2001:db8:0:1:ffff:ffff:ffff:ffff",
	"2001:db8:0:1:ffff:ffff:ffff:fffe", "2001:db8:0:2::", "2001:db8:0:2::4", "2001:db8:0:1::5", "::ffff:192.0.2.8", "ffff::1",
}

func TestPoolDoesWhatTheModelDoes(t *testing.T) {
	seed := uint64(0)
	for _, sources := range modelSources {
		for _, ports := range modelPorts {
			for _, manyDelays := range []bool{false, true} {
				seed++
				t.Run(fmt.Sprintf("sources=%s/ports=%d/many=%t", sources.name, len(ports), manyDelays), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						d := newDriver(t, seeded(t, 1, seed), prefixes(sources.list...), ports, manyDelays)
						for range scaled(1500) {
							d.step()
						}
						d.drain()
					})
				})
			}
		}
	}
}

// The same where the destinations meet in one shard, and so share a lock, a cool-down and a timer.
func TestPoolDoesWhatTheModelDoesWithinOneShard(t *testing.T) {
	for seed, manyDelays := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := newDriver(t, seeded(t, 3, uint64(seed)), nil, []uint16{1, 5000, 60000}, manyDelays)
			d.dsts = oneShard(d.pool, 6)
			for range scaled(6000) {
				d.step()
			}
			d.drain()
		})
	}
}

// oneShard returns n destinations of one shard of p.
func oneShard(p *tuple.Pool, n int) []netip.AddrPort {
	var dsts []netip.AddrPort
	for i := 0; len(dsts) < n; i++ {
		if p.SameShard(tuple.From(netip.AddrPort{}, dstN(0)), tuple.From(netip.AddrPort{}, dstN(i))) {
			dsts = append(dsts, dstN(i))
		}
	}
	return dsts
}

// driver runs the same random operations on a Pool and on its model.
type driver struct {
	*testing.T
	rng     *rand.Rand
	pool    *tuple.Pool
	model   *model
	dsts    []netip.AddrPort
	sources []netip.Addr
	ports   []uint16
	inUse   []tuple.Tuple
	delays  func() time.Duration
	forEver map[tuple.Tuple]bool // what has a time that never comes
	fixed   []uint16             // the ports that the pool begins with
	steps   int
}

func newDriver(t *testing.T, rng *rand.Rand, sources []netip.Prefix, ports []uint16, manyDelays bool) *driver {
	d := &driver{
		T: t, rng: rng, forEver: map[tuple.Tuple]bool{}, model: newModel(sources, ports), ports: append([]uint16{0, 1024, 65534}, ports...),
		pool: &tuple.Pool{Sources: sources, Ports: setOf(ports)}, fixed: ports,
	}
	if manyDelays { // and many sets of ports
		d.pool.Ports = alloc.Set{}
		require.NoError(d, only.SetPorts(d.pool, setOf(ports)))
	}
	d.pool.SetRand(locked(rand.New(rand.NewPCG(rng.Uint64(), 0)).Uint64))
	for _, dst := range modelDsts {
		d.dsts = append(d.dsts, ap(dst))
	}
	d.dsts = d.dsts[:2+rng.IntN(len(d.dsts)-1)]
	for a := range d.model.sources {
		if len(d.sources) < 20 {
			d.sources = append(d.sources, a)
		}
	}
	for _, a := range strangers {
		d.sources = append(d.sources, netip.MustParseAddr(a))
	}
	few := []time.Duration{time.Minute, 30 * time.Second, 2 * time.Second}[:1+rng.IntN(3)]
	d.delays = func() time.Duration {
		switch r := rng.IntN(40); {
		case r == 0:
			return 0
		case r == 1:
			return -time.Minute
		case r == 2:
			return math.MinInt64
		case r == 3:
			return math.MaxInt64
		case manyDelays:
			return time.Duration(rng.Int64N(int64(time.Minute)))
		}
		return few[rng.IntN(len(few))]
	}
	return d
}

func now() int64 { return time.Now().UnixNano() }

// clean returns dst as a Tuple holds it.
func clean(dst netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(dst.Addr().Unmap().WithZone(""), dst.Port())
}

func (d *driver) dst() netip.AddrPort {
	if d.rng.IntN(2) == 0 {
		return d.dsts[0]
	}
	return d.dsts[d.rng.IntN(len(d.dsts))]
}

// tuple returns one that is in use, mostly, or one that may be anything.
func (d *driver) tuple() tuple.Tuple {
	if len(d.inUse) > 0 && d.rng.IntN(4) > 0 {
		got := d.inUse[d.rng.IntN(len(d.inUse))]
		if d.model.any && d.rng.IntN(2) == 0 { // the source of a tuple handed in does not matter
			src := netip.AddrPortFrom(d.sources[d.rng.IntN(len(d.sources))], got.Src().Port())
			return tuple.From(src, got.Dst())
		}
		return got
	}
	src := netip.AddrPortFrom(d.sources[d.rng.IntN(len(d.sources))], d.ports[d.rng.IntN(len(d.ports))])
	return tuple.From(src, d.dst())
}

func (d *driver) step() {
	d.steps++
	grow := d.steps/150%2 == 0
	switch r := d.rng.IntN(100); {
	case r < 30 || grow && r < 55:
		d.acquire(d.dst())
	case r < 60:
		d.end(d.tuple(), 0, true)
	case r < 75:
		d.end(d.tuple(), d.delays(), false)
	case r < 85:
		t := d.tuple()
		want := d.model.reserve(t)
		require.Equal(d, want, d.pool.Reserve(t), "Reserve(%v)", t)
		if want {
			t, _ = d.model.entry(t)
			d.inUse = append(d.inUse, t)
		}
	case r < 90:
		t := d.tuple()
		require.Equal(d, d.model.contains(t), d.pool.Contains(t), "Contains(%v)", t)
		_, state := d.model.entry(t)
		require.Equal(d, state, d.pool.State(t), "State(%v)", t)
	case r < 94:
		d.others(d.tuple(), d.delays)
	case r < 95:
		d.setPorts()
	default:
		time.Sleep(time.Duration(d.rng.Int64N(int64(20 * time.Second))))
		d.model.expire(now())
	}
	if d.steps%7 == 0 {
		require.Equal(d, d.model.stats(), d.pool.Stats())
		d.look()
	}
	if len(d.inUse) < 300 || d.steps%50 == 0 {
		require.NoError(d, d.pool.Check(), "after step %d", d.steps)
	}
}

func (d *driver) acquire(dst netip.AddrPort) {
	is, next := d.model.towards(clean(dst))
	got, err := d.pool.TryAcquire(dst)
	if d.model.capacity(clean(dst)) == 0 {
		require.ErrorContains(d, err, "no source")
		require.NotErrorIs(d, err, tuple.ErrExhausted)
		return
	}
	if is.Free > 0 {
		require.NoError(d, err, "%+v", is)
		entry, _ := d.model.entry(got)
		require.True(d, entry == got && got.IsValid(), "%v is not the pool's", got)
		require.Equal(d, clean(dst), got.Dst())
		require.True(d, d.model.reserve(got), "%v is held twice", got)
		d.inUse = append(d.inUse, got)
		return
	}
	require.Zero(d, got)
	var exhausted *tuple.ExhaustedError
	require.True(d, errors.As(err, &exhausted), "%v", err)
	want := tuple.ExhaustedError{Dst: clean(dst), InUse: is.InUse, Retired: is.Retired, Taken: is.Taken}
	switch {
	case next < never:
		want.Next = time.Duration(next - now())
	case d.isForEver(clean(dst)):
		want.Next = exhausted.Next // near the end of time
	}
	require.Equal(d, want, *exhausted)
}

// isForEver reports whether something towards dst has a time that never comes.
func (d *driver) isForEver(dst netip.AddrPort) bool {
	for t := range d.model.held {
		if t.Dst() == dst && d.forEver[t] {
			return true
		}
	}
	return false
}

func (d *driver) end(t tuple.Tuple, delay time.Duration, release bool) {
	is := held{state: tuple.Retired, kernel: !release && d.rng.IntN(2) == 0}
	want := d.model.retire(t, is, delay, now())
	switch {
	case release:
		require.Equal(d, want, d.pool.Release(t), "Release(%v)", t)
	case is.kernel:
		require.Equal(d, want, only.RetireForKernel(d.pool, t, delay), "RetireForKernel(%v, %v)", t, delay)
	default:
		require.Equal(d, want, d.pool.Retire(t, delay), "Retire(%v, %v)", t, delay)
	}
	if want {
		d.ended(t, delay)
	}
}

// others does with a tuple, or with all towards its destination, what only package dialer does.
func (d *driver) others(t tuple.Tuple, delays func() time.Duration) {
	entry, state := d.model.entry(t)
	delay := delays()
	switch d.rng.IntN(8) {
	case 0, 1:
		want := d.model.retire(t, held{state: tuple.Taken}, delay, now())
		require.Equal(d, want, only.Yield(d.pool, t, delay), "Yield(%v, %v)", t, delay)
		if want {
			d.ended(t, delay)
		}
	case 2, 3:
		want := state == tuple.Free && delay != 0
		require.Equal(d, want, only.Take(d.pool, t, delay), "Take(%v, %v)", t, delay)
		if want {
			d.model.setFor(entry, held{state: tuple.Taken}, delay, now())
			d.forEver[entry] = delay > time.Hour
		}
	case 4, 5:
		was, ok := only.Claim(d.pool, t, "")
		require.Equal(d, state, was, "Claim(%v)", t)
		require.Equal(d, d.model.ports[t.Src().Port()] && (state == tuple.Free || d.model.mayEnd(t)), ok, "Claim(%v), which was %v", t, was)
		if ok {
			d.model.set(entry, held{state: tuple.InUse})
			d.inUse = append(d.inUse, entry)
		}
	case 6:
		want := d.model.mayEnd(t)
		require.Equal(d, want, only.Free(d.pool, t), "Free(%v)", t)
		if want {
			d.model.free(entry)
		}
	case 7:
		keep := d.rng.Uint32()
		isHeld := func(u tuple.Tuple) bool { return keep>>(u.Src().Port()%32)&1 != 0 }
		n := 0
		for u := range d.model.held {
			if u.Dst() == t.Dst() && d.model.mayEnd(u) && !isHeld(u) {
				d.model.free(u)
				n++
			}
		}
		require.Equal(d, n, only.FreeUnless(d.pool, t.Dst(), 0, isHeld))
	}
}

// setPorts gives the pool some of the ports that it began with, or others.
func (d *driver) setPorts() {
	var list []uint16
	for _, port := range append(d.fixed, 1024, 1025, 30000) {
		if d.rng.IntN(3) > 0 {
			list = append(list, port)
		}
	}
	err := only.SetPorts(d.pool, setOf(list))
	if !d.pool.Ports.IsZero() || len(list) == 0 {
		require.Error(d, err)
		return
	}
	require.NoError(d, err)
	d.model.setPorts(list)
}

// ended takes t, which was in use, off the list.
func (d *driver) ended(t tuple.Tuple, delay time.Duration) {
	t, _ = d.model.entry(t)
	d.forEver[t] = delay > time.Hour
	for i, u := range d.inUse {
		if u == t {
			last := len(d.inUse) - 1
			d.inUse[i] = d.inUse[last]
			d.inUse = d.inUse[:last]
			return
		}
	}
	require.Fail(d, "ended the use of what was not in use", "%v", t)
}

// drain releases all and waits until all is cool. Only what is retired for ever may then be left.
func (d *driver) drain() {
	for len(d.inUse) > 0 {
		d.end(d.inUse[0], 0, true)
	}
	for u, h := range d.model.held {
		if h.state == tuple.Taken {
			require.True(d, only.Free(d.pool, u), "%v", u)
			d.model.free(u)
		}
	}
	time.Sleep(time.Hour)
	d.model.expire(now())
	require.Equal(d, d.model.stats(), d.pool.Stats())
	require.NoError(d, d.pool.Check())
	require.Zero(d, d.pool.Timers())
}
