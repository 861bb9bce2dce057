package held_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/held"
	"github.com/ephemera-go/ephemera/internal/ports"
)

var replayed = []string{"192.0.2.0/29", "192.0.2.32/29", "2001:db8::/126"}

// transcript does the same things to a Table each time, and tells what came of them. Some requests ask for some ports,
// unless some is nil.
func transcript(policy held.Policy, seed uint64, some *ports.Allowed, moves bool) (list []string) {
	script := rand.New(rand.NewPCG(seed, 77))
	s := newSide(policy, seed, span(3000, 8), replayed...)
	all := map[netip.AddrPort][]held.Hold{}
	for i := range 600 {
		dst := machineDsts[script.IntN(len(machineDsts))]
		mine := all[dst]
		switch what := script.IntN(20); {
		case what < 13:
			a := s.ask(dst)
			if what < 5 {
				a.Ports = some
			}
			a.Owner = []string{"", "a", "b"}[script.IntN(3)]
			h, ok := s.find(dst).Acquire(a, &s.rules)
			list = append(list, fmt.Sprintf("%d: %v: %t, source %d, port %d", i, dst, ok, h.Number(), h.Port()))
			if ok {
				all[dst] = append(mine, h)
			}
		case what < 19 && len(mine) > 0:
			j := script.IntN(len(mine))
			s.free(dst, mine[j])
			all[dst] = slices.Delete(mine, j, j+1)
		case moves:
			was := s.rules
			s.move(sourcesOf(span(3000, 8+script.IntN(3)), replayed...))
			for d, holds := range all {
				for j, h := range holds {
					holds[j] = held.Renumber(h, was.Sources(keyOf(d)), s.rules.Sources(keyOf(d)))
				}
			}
		}
	}
	return list
}

func TestSameRandomNumbersReplayExactly(t *testing.T) {
	for _, policy := range policies {
		for _, some := range []*ports.Allowed{nil, allow(span(3002, 3))} {
			for _, moves := range []bool{false, true} {
				t.Run(fmt.Sprintf("policy=%d/some ports=%t/moves=%t", policy, some != nil, moves), func(t *testing.T) {
					for seed := range uint64(3) {
						first := transcript(policy, seed, some, moves)
						for range 2 {
							for i, line := range transcript(policy, seed, some, moves) {
								require.Equal(t, first[i], line, "seed %d", seed)
							}
						}
					}
				})
			}
		}
	}
}
