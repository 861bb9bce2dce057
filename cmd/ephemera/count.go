package main

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

// A tally is the kernel's count of the connections from one source address.
type tally struct {
	connections int // ESTABLISHED
	ports       int // distinct local ports among them
	most        int // connections on the port that has the most
}

// recounts is how often to count if other sockets come and go so fast that the kernel interrupts a dump.
const recounts = 10

// kernelCount asks the kernel how many connections from source to the destinations are ESTABLISHED.
func kernelCount(source netip.Addr, to []netip.AddrPort) (t tally, err error) {
	for range recounts {
		t, err = countOnce(source, to)
		if !errors.Is(err, sockdiag.ErrInterrupted) {
			break
		}
	}
	if err != nil {
		return tally{}, fmt.Errorf("cannot count the connections: %w", err)
	}
	return t, nil
}

func countOnce(source netip.Addr, to []netip.AddrPort) (tally, error) {
	wanted := make(map[netip.AddrPort]bool, len(to))
	for _, dst := range to {
		wanted[dst] = true
	}
	var t tally
	held := make([]int, 1<<16) // by local port
	query := sockdiag.Query{
		States: sockdiag.StatesOf(sockdiag.Established),
		Local:  sockdiag.At(netip.AddrPortFrom(source, 0)),
	}
	for s, err := range query.All() {
		if err != nil {
			return tally{}, err
		}
		if !wanted[s.Remote] {
			continue
		}
		t.connections++
		port := s.Local.Port()
		if held[port]++; held[port] == 1 {
			t.ports++
		}
		t.most = max(t.most, held[port])
	}
	return t, nil
}
