package tuple_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// call is an operation on a pool of a few tuples towards one destination, numbered from 0.
type call struct {
	what string // acquire, wait (an acquire that waits for a while), reserve, release, contains, sources
	n    int    // the tuple; none for acquire and wait; for sources a bit for each tuple that they have
}

// none is the result of an acquire that found nothing. The other operations return yes or no.
const (
	none = -1
	no   = 0
	yes  = 1
)

// poolState has a bit for each tuple in use, and a bit for each tuple that the present sources have.
type poolState struct{ held, live uint64 }

// poolModel is the sequential model of a Pool with this many tuples.
func poolModel(tuples int) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return poolState{live: 1<<tuples - 1} },
		Step: func(state, input, output any) (bool, any) {
			s, in, out := state.(poolState), input.(call), output.(int)
			bit := uint64(1) << max(in.n, 0)
			is := s.held&bit != 0
			switch in.what {
			case "acquire", "wait":
				if out == none {
					return s.live&^s.held == 0, s
				}
				bit = 1 << out
				return s.live&^s.held&bit != 0, poolState{s.held | bit, s.live}
			case "reserve":
				if out == yes {
					return s.live&^s.held&bit != 0, poolState{s.held | bit, s.live}
				}
				return s.live&^s.held&bit == 0, s
			case "release":
				return is == (out == yes), poolState{s.held &^ bit, s.live}
			case "sources":
				return true, poolState{s.held, uint64(in.n)}
			}
			return is == (out == yes), s
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%v: %v", input, output) },
	}
}

func TestPoolIsLinearizable(t *testing.T) {
	for _, test := range []struct {
		source  string
		ports   int
		clients int
	}{
		{"192.0.2.0/32", 1, 3},
		{"192.0.2.0/32", 2, 4},
		{"192.0.2.0/31", 1, 4},
		{"192.0.2.0/31", 3, 4},
		{"192.0.2.0/30", 1, 5},
	} {
		t.Run(fmt.Sprintf("source=%s/ports=%d", test.source, test.ports), func(t *testing.T) {
			t.Log("seeds: rand.NewPCG(40+round, client)")
			for round := range scaled(60) {
				p := &tuple.Pool{Sources: prefixes(test.source), Ports: alloc.RangeSet(5000, uint16(5000+test.ports-1))}
				tuples := test.ports << (32 - p.Sources[0].Bits())
				// All tuples except one are in use, so that all clients compete for the last.
				history := record(p, tuples, test.clients, uint64(round), round%2 == 1)
				if !porcupine.CheckOperations(poolModel(tuples), history) {
					for _, op := range history {
						t.Logf("%d [%d, %d] %v: %v", op.ClientId, op.Call, op.Return, op.Input, op.Output)
					}
					require.Fail(t, "no order of these operations explains their results")
				}
			}
		})
	}
}

// record runs clients on p at the same time and returns what they did. One of them may change the sources while others
// wait. A counter is the clock.
func record(p *tuple.Pool, tuples, clients int, round uint64, changes bool) []porcupine.Operation {
	base := p.Sources[0].Addr().As4()
	nth := func(n int) tuple.Tuple {
		src := base
		src[3] += byte(n / p.Ports.Len())
		return tuple.From(netip.AddrPortFrom(netip.AddrFrom4(src), uint16(5000+n%p.Ports.Len())), web)
	}
	number := func(u tuple.Tuple) int {
		return int(u.Src().Addr().As4()[3]-base[3])*p.Ports.Len() + int(u.Src().Port()) - 5000
	}
	truth := func(ok bool) int {
		if ok {
			return yes
		}
		return no
	}
	do := func(c call) int {
		switch c.what {
		case "acquire":
			u, err := p.TryAcquire(web)
			if err != nil {
				return none
			}
			return number(u)
		case "wait":
			for {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Microsecond)
				u, err := p.Acquire(ctx, web)
				cancel()
				switch {
				case err == nil:
					return number(u)
				// Any other error is that of a context that had ended before the call.
				case errors.Is(err, tuple.ErrExhausted) || !errors.Is(err, context.DeadlineExceeded):
					return none
				}
			}
		case "reserve":
			return truth(p.Reserve(nth(c.n)))
		case "release":
			return truth(p.Release(nth(c.n)))
		}
		if c.what == "sources" {
			var list []tuple.Source
			for n := 0; n < tuples; n += p.Ports.Len() {
				if c.n>>n&1 != 0 {
					list = append(list, tuple.Source{Prefix: netip.PrefixFrom(nth(n).Src().Addr(), 32)})
				}
			}
			return truth(p.SetSources(list...) == nil)
		}
		return truth(p.Contains(nth(c.n)))
	}

	var clock atomic.Int64
	histories := make([][]porcupine.Operation, clients+1)
	step := func(client int, c call) int {
		op := porcupine.Operation{ClientId: client, Input: c, Call: clock.Add(1)}
		out := do(c)
		op.Output, op.Return = out, clock.Add(1)
		histories[client] = append(histories[client], op)
		return out
	}
	for range tuples - 1 {
		step(clients, call{"acquire", none})
	}
	var wg sync.WaitGroup
	start := make(chan struct{})
	for client := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(40+round, uint64(client)))
			<-start
			var held []int
			for range 25 {
				switch r := rng.IntN(8); {
				case r < 3:
					what := "acquire"
					if changes && client%2 == 1 {
						what = "wait"
					}
					if n := step(client, call{what, none}); n != none {
						held = append(held, n)
					}
				case r < 4:
					if n := rng.IntN(tuples); step(client, call{"reserve", n}) == yes {
						held = append(held, n)
					}
				case r < 7 && len(held) > 0:
					step(client, call{"release", held[0]})
					held = held[1:]
				case r == 7 && changes && client == 0:
					mask := 0
					for n := 0; n < tuples; n += p.Ports.Len() {
						if rng.IntN(3) > 0 {
							mask |= (1<<p.Ports.Len() - 1) << n
						}
					}
					step(client, call{"sources", mask})
				case r == 6: // any tuple, also another client's
					step(client, call{"release", rng.IntN(tuples)})
				default:
					step(client, call{"contains", rng.IntN(tuples)})
				}
			}
		})
	}
	close(start)
	wg.Wait()
	return slices.Concat(histories...)
}

// The model rejects a tuple that is held twice. It also rejects an acquire that fails although at every instant some
// tuple was free, even if never the same one.
func TestPoolModelRejectsWrongHistories(t *testing.T) {
	op := func(from, to int64, what string, n, out int) porcupine.Operation {
		return porcupine.Operation{ClientId: int(from), Input: call{what, n}, Call: from, Output: out, Return: to}
	}
	for name, test := range map[string]struct {
		history []porcupine.Operation
		right   bool
	}{
		"one after the other": {right: true, history: []porcupine.Operation{
			op(1, 2, "acquire", none, 0), op(3, 4, "acquire", none, 1), op(5, 6, "acquire", none, none),
			op(7, 8, "release", 0, yes),
			op(9, 10, "contains", 0, no), op(11, 12, "reserve", 0, yes), op(13, 14, "reserve", 1, no),
		}},
		"held twice": {history: []porcupine.Operation{
			op(1, 2, "acquire", none, 0), op(3, 4, "acquire", none, 0),
		}},
		"fails though one is free": {history: []porcupine.Operation{
			op(1, 2, "acquire", none, 0), op(3, 4, "acquire", none, none),
		}},
		// Of two tuples, 1 is free. An acquire finds 0 held and goes on to 1. Meanwhile another client releases 0 and
		// then takes 1. The acquire finds nothing, although at every instant a tuple was free.
		"missed what was freed behind its back": {history: []porcupine.Operation{
			op(1, 2, "acquire", none, 0), op(3, 8, "acquire", none, none), op(4, 5, "release", 0, yes),
			op(6, 7, "reserve", 1, yes),
		}},
		"failed while nothing was free for an instant": {right: true, history: []porcupine.Operation{
			op(1, 2, "acquire", none, 0), op(3, 8, "acquire", none, none), op(4, 5, "reserve", 1, yes),
			op(6, 7, "release", 0, yes),
		}},
		"released twice": {history: []porcupine.Operation{
			op(1, 2, "acquire", none, 0), op(3, 6, "release", 0, yes), op(4, 5, "release", 0, yes),
		}},
		"from a source that was drained": {history: []porcupine.Operation{
			op(1, 2, "sources", 1, yes), op(3, 4, "acquire", none, 1),
		}},
		"fails though a new source has one": {history: []porcupine.Operation{
			op(1, 2, "sources", 0, yes), op(3, 4, "acquire", none, none), op(5, 6, "sources", 3, yes),
			op(7, 8, "acquire", none, none),
		}},
		"contains what was released": {history: []porcupine.Operation{
			op(1, 2, "acquire", none, 0), op(3, 4, "release", 0, yes), op(5, 6, "contains", 0, yes),
		}},
	} {
		require.Equal(t, test.right, porcupine.CheckOperations(poolModel(2), test.history), name)
	}
}
