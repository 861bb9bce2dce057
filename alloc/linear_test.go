package alloc_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
)

// call is an operation on a Ports of the ports base, base+1 and so on. A bit stands for a port.
type call struct {
	op   string
	port uint8 // Reserve, Release, Contains: one bit; AcquireIn: the set
}

// result is the result of a call.
type result struct {
	port uint8 // of Acquire and AcquireIn: one bit
	ok   bool
	n    int // Len
}

const base = 1022 // three ports from here on are in two words

// specification is the sequential model of a Ports with n ports. The state is the ports in use.
func specification(n int) porcupine.Model {
	all := uint8(1<<n - 1)
	return porcupine.Model{
		Init: func() any { return uint8(0) },
		Step: func(state, input, output any) (bool, any) {
			used, in, out := state.(uint8), input.(call), output.(result)
			switch in.op {
			case "Acquire", "AcquireIn":
				free := all &^ used
				if in.op == "AcquireIn" {
					free &= in.port
				}
				if !out.ok {
					return free == 0, used
				}
				return free&out.port != 0, used | out.port
			case "Reserve":
				return out.ok == (all&^used&in.port != 0), used | in.port&all
			case "Release":
				return out.ok == (used&in.port != 0), used &^ in.port
			case "Contains":
				return out.ok == (used&in.port != 0), used
			default:
				return out.n == onesCount(used), used
			}
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
	}
}

func onesCount(bits uint8) (n int) {
	for ; bits != 0; bits &= bits - 1 {
		n++
	}
	return n
}

func do(p *alloc.Ports, sets []alloc.Set, in call) (out result) {
	var port uint16
	one := base + uint16(onesCount(in.port-1))
	switch in.op {
	case "Acquire":
		port, out.ok = p.Acquire()
	case "AcquireIn":
		port, out.ok = p.AcquireIn(sets[in.port])
	case "Reserve":
		out.ok = p.Reserve(one)
	case "Release":
		out.ok = p.Release(one)
	case "Contains":
		out.ok = p.Contains(one)
	case "Len":
		out.n = p.Len()
	}
	if port != 0 {
		out.port = 1 << (port - base)
	}
	return out
}

func TestPortsAreLinearizable(t *testing.T) {
	histories := 2000
	if testing.Short() {
		histories = 300
	}
	const workers, calls = 3, 6
	var sets []alloc.Set // by their bits
	for bits := range uint16(8) {
		s := alloc.Set{}
		for i := range uint16(3) {
			if bits>>i&1 != 0 {
				s = s.Union(alloc.RangeSet(base+i, base+i))
			}
		}
		sets = append(sets, s)
	}
	ops := []string{
		"Acquire", "Acquire", "Acquire", "AcquireIn", "Reserve", "Release", "Release", "Release", "Contains", "Len",
	}
	for n := 1; n <= 3; n++ {
		t.Logf("seed: rand.NewPCG(%d, history)", n)
		model := specification(n)
		overlaps := 0
		for history := range histories {
			rng := rand.New(rand.NewPCG(uint64(n), uint64(history)))
			p := alloc.NewFrom(alloc.RangeSet(base, base+uint16(n)-1), func() uint64 {
				runtime.Gosched() // let the others run in the middle of an acquire
				return rand.Uint64()
			})
			var clock, ready atomic.Int64
			done := make([]porcupine.Operation, workers*calls)
			var wg sync.WaitGroup
			for w := range workers {
				mine := done[w*calls:][:calls]
				for i := range mine {
					in := call{op: ops[rng.IntN(len(ops))], port: 1 << rng.IntN(n)}
					if in.op == "AcquireIn" {
						in.port = uint8(rng.IntN(8))
					}
					mine[i] = porcupine.Operation{ClientId: w, Input: in}
				}
				wg.Go(func() {
					for ready.Add(1); ready.Load() < workers; {
						runtime.Gosched()
					}
					for i := range mine {
						mine[i].Call = clock.Add(1)
						if (history+i)%2 == 0 { // without it, a call ends before the next worker starts
							runtime.Gosched()
						}
						mine[i].Output = do(p, sets, mine[i].Input.(call))
						mine[i].Return = clock.Add(1)
					}
				})
			}
			wg.Wait()
			if !porcupine.CheckOperations(model, done) {
				for _, op := range done {
					t.Logf("%d-%d: %s", op.Call, op.Return, model.DescribeOperation(op.Input, op.Output))
				}
				require.Fail(t, "not linearizable", "%d ports, history %d", n, history)
			}
			for _, op := range done {
				if op.Return != op.Call+1 {
					overlaps++
				}
			}
		}
		t.Logf("%d ports: %d of %d calls overlapped another", n, overlaps, histories*workers*calls)
	}
}

// The test above can fail: a history with one wrong result is not linearizable.
func TestTheSpecificationRejectsWrongHistories(t *testing.T) {
	at := func(from, to int64, in call, out result) porcupine.Operation {
		return porcupine.Operation{Input: in, Output: out, Call: from, Return: to}
	}
	const a, b = 1, 2
	yes, no := result{ok: true}, result{}
	start := at(0, 1, call{"Reserve", a}, yes) // then only b is free
	// During a search for a free port, a is released and then b is acquired. So one of them is free all the time, but a
	// search that looks at a before and at b after that finds none.
	freed, taken := at(11, 12, call{"Release", a}, yes), at(13, 14, call{"Acquire", 0}, result{b, true, 0})
	for name, history := range map[string]struct {
		right bool
		ops   []porcupine.Operation
	}{
		"the search finds the first": {true, []porcupine.Operation{
			start, freed, taken, at(10, 20, call{"Acquire", 0}, result{a, true, 0}),
		}},
		"the search misses both": {false, []porcupine.Operation{
			start, freed, taken, at(10, 20, call{"Acquire", 0}, no),
		}},
		"the search in both misses both": {false, []porcupine.Operation{
			start, freed, taken, at(10, 20, call{"AcquireIn", a | b}, no),
		}},
		"the search in one misses it": {true, []porcupine.Operation{
			start, freed, taken, at(10, 20, call{"AcquireIn", b}, no),
		}},
		"none was free for a moment": {true, []porcupine.Operation{
			start,
			at(11, 12, call{"Acquire", 0}, result{b, true, 0}),
			at(13, 14, call{"Release", a}, yes),
			at(10, 20, call{"Acquire", 0}, no),
		}},
		"one port for two": {false, []porcupine.Operation{
			start, at(2, 5, call{"Acquire", 0}, result{b, true, 0}), at(3, 6, call{"Acquire", 0}, result{b, true, 0}),
		}},
		"a port out of the set": {false, []porcupine.Operation{at(0, 1, call{"AcquireIn", a}, result{b, true, 0})}},
		"reserved twice":        {false, []porcupine.Operation{start, at(2, 3, call{"Reserve", a}, yes)}},
		"released twice": {false, []porcupine.Operation{
			start, at(2, 3, call{"Release", a}, yes), at(4, 5, call{"Release", a}, yes),
		}},
		"not in use":  {false, []porcupine.Operation{start, at(2, 3, call{"Contains", a}, no)}},
		"a wrong Len": {false, []porcupine.Operation{start, at(2, 3, call{"Len", 0}, result{n: 2})}},
	} {
		require.Equal(t, history.right, porcupine.CheckOperations(specification(2), history.ops), name)
	}
}

// owners records which goroutine holds each port.
type owners [1 << 16]atomic.Int32

func (o *owners) take(port uint16, who int) error {
	if !o[port].CompareAndSwap(0, int32(who)) {
		return fmt.Errorf("port %d was given to goroutine %d while goroutine %d held it", port, who, o[port].Load())
	}
	return nil
}

func (o *owners) leave(port uint16, who int) error {
	if !o[port].CompareAndSwap(int32(who), 0) {
		return fmt.Errorf("goroutine %d held port %d, not goroutine %d", o[port].Load(), port, who)
	}
	return nil
}

// All ports except the spare ones are in use. Several goroutines each release a port and acquire one, again and again.
// During an acquire at least one port is always free: the one that the goroutine has released, or one that another
// goroutine has released before it took that. So an acquire that fails is wrong.
func TestAnAcquireNeverFailsWhileAPortIsFree(t *testing.T) {
	all := alloc.RangeSet(1024, 65535)
	acquire := (*alloc.Ports).Acquire
	in := func(s alloc.Set) func(p *alloc.Ports) (uint16, bool) {
		return func(p *alloc.Ports) (uint16, bool) { return p.AcquireIn(s) }
	}
	for _, c := range []struct {
		name    string
		set     alloc.Set
		spare   int
		acquire func(p *alloc.Ports) (uint16, bool)
	}{
		{"full", all, 0, acquire},
		{"full but one", all, 1, acquire},
		{"full but one, in all", all, 1, in(alloc.RangeSet(1, 65535))},
		{"a full list", alloc.RangeSet(1024, 1087), 0, acquire},
		{"a full list, in all", alloc.RangeSet(1024, 1087), 0, in(all)},
		{"with holes, full but one", every(16, 7, 65535), 1, acquire},
	} {
		t.Run(c.name, func(t *testing.T) {
			rounds := 20_000
			if testing.Short() {
				rounds = 3_000
			}
			const workers = 4
			p, held := alloc.New(c.set), new(owners)
			var mine [workers][]uint16
			for i := range c.set.Len() - c.spare {
				port, ok := p.Acquire()
				require.True(t, ok)
				require.NoError(t, held.take(port, 1+i%workers))
				mine[i%workers] = append(mine[i%workers], port)
			}
			failures := make(chan error, workers)
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					ports, who := mine[w], w+1
					for round := range rounds {
						i := round % len(ports)
						if err := held.leave(ports[i], who); err != nil {
							failures <- err
							return
						}
						if !p.Release(ports[i]) {
							failures <- fmt.Errorf("port %d was in use and could not be released", ports[i])
							return
						}
						port, ok := c.acquire(p)
						if !ok {
							failures <- fmt.Errorf("round %d: found no port while one was free", round)
							return
						}
						if err := held.take(port, who); err != nil {
							failures <- err
							return
						}
						ports[i] = port
					}
				})
			}
			wg.Wait()
			close(failures)
			for err := range failures {
				require.NoError(t, err)
			}
			require.Equal(t, c.spare, p.Free())
			for port := range 1 << 16 {
				if in, owned := p.Contains(uint16(port)), held[port].Load() != 0; in != owned {
					require.Equal(t, owned, in, "port %d", port)
				}
			}
		})
	}
}

// One port is free, and it moves: the mover releases its port before it takes the free one. So there is always a free
// port, but a search that looks at one place first and at the other later may miss it.
func TestAnAcquireFindsTheLastFreePortWhereverItMoves(t *testing.T) {
	all, ends := alloc.RangeSet(1024, 65535), alloc.MustParseSet("1,65535")
	for _, c := range []struct {
		name      string
		set       alloc.Set
		low, high uint16
		acquire   func(p *alloc.Ports) (uint16, bool)
	}{
		{"all", all, 1024, 65535, (*alloc.Ports).Acquire},
		{"next to each other", all, 40000, 40001, (*alloc.Ports).Acquire},
		{"in all", all, 1024, 65535, func(p *alloc.Ports) (uint16, bool) { return p.AcquireIn(all) }},
		{"two", ends, 1, 65535, (*alloc.Ports).Acquire},
		{"in two of three", alloc.MustParseSet("1,300,65535"), 1, 65535, func(p *alloc.Ports) (uint16, bool) {
			return p.AcquireIn(ends)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			probes := 100_000
			if testing.Short() {
				probes = 10_000
			}
			const mover, prober = 1, 2
			p, held := alloc.New(c.set), new(owners)
			for port := range c.set.All() {
				if port != c.low && !p.Reserve(port) {
					require.Fail(t, "a free port cannot be reserved", "%d", port)
				}
			}
			require.NoError(t, held.take(c.high, mover))
			var done atomic.Bool
			moves := 0
			failure := make(chan error, 1)
			go func() {
				defer close(failure)
				own, other := c.high, c.low
				for ; !done.Load(); moves++ {
					if err := held.leave(own, mover); err != nil {
						failure <- err
						return
					}
					if !p.Release(own) {
						failure <- fmt.Errorf("port %d was in use and could not be released", own)
						return
					}
					for own, other = other, own; !p.Reserve(own); { // the prober may have one of the two
						own, other = other, own
					}
					if err := held.take(own, mover); err != nil {
						failure <- err
						return
					}
				}
			}()
			var err error
			for probe := 0; probe < probes && err == nil; probe++ {
				port, ok := c.acquire(p)
				if !ok {
					err = fmt.Errorf("probe %d found no port while one was free", probe)
				} else if err = held.take(port, prober); err == nil {
					err = held.leave(port, prober)
					if !p.Release(port) {
						err = fmt.Errorf("port %d was in use and could not be released", port)
					}
				}
			}
			done.Store(true)
			require.NoError(t, <-failure)
			require.NoError(t, err)
			require.Equal(t, 1, p.Free())
			t.Logf("%d moves during %d probes", moves, probes)
		})
	}
}

// Several goroutines try to get the same port in different ways, and exactly one succeeds. Then all of them release it,
// and exactly one succeeds.
func TestOneOfManyGetsAPortAndOneReleasesIt(t *testing.T) {
	rounds := 2000
	if testing.Short() {
		rounds = 200
	}
	one := alloc.RangeSet(8080, 8080)
	p := alloc.New(alloc.RangeSet(8080, 8080))
	get := []func() bool{
		func() bool { _, ok := p.Acquire(); return ok },
		func() bool { _, ok := p.AcquireIn(one); return ok },
		func() bool { return p.Reserve(8080) },
	}
	for round := range rounds {
		var got, released atomic.Int32
		var wg sync.WaitGroup
		for _, get := range get {
			wg.Go(func() {
				if get() {
					got.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, got.Load(), "round %d", round)
		for range get {
			wg.Go(func() {
				if p.Release(8080) {
					released.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, released.Load(), "round %d", round)
	}
}
