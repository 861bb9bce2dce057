//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/bench/internal/lab"
)

// turn asks a contender for this many dials.
type turn struct{ Dials int }

// cost is the cost of a dial in a turn.
type cost struct {
	Wall, P50      time.Duration // the mean and the median
	CPU            time.Duration // of the client's process
	Mallocs, Bytes float64
}

// The local ports of every contender, both inclusive: the kernel's default.
const firstPort, lastPort = 32768, 60999

// contend takes turns in the network namespace of this process.
func (c contender) contend(network string) error {
	n, err := lab.Open(network, lab.Service{Destinations: 1, ClosesFirst: true},
		fmt.Sprintf("ipv4/ip_local_port_range=%d %d", firstPort, lastPort))
	if err != nil {
		return err
	}
	defer n.Close()
	dial, err := c.dialer(n.Source, alloc.RangeSet(firstPort, lastPort))
	if err != nil {
		return err
	}
	return lab.Serve(func(t turn) (cost, error) {
		return t.measure(func() error { return c.once(dial, n.Destinations[0].String()) })
	})
}

// once dials and closes. For TCP it waits until the peer has closed, which the peer does at once.
func (c contender) once(dial dialFunc, to string) error {
	conn, err := dial(c.protocol, to)
	if err != nil {
		return err
	}
	if c.protocol == "tcp" {
		if _, err = conn.Read(make([]byte, 1)); err == io.EOF {
			err = nil
		}
	}
	return errors.Join(err, conn.Close())
}

// measure calls f t.Dials times.
func (t turn) measure(f func() error) (cost, error) {
	took := make([]time.Duration, t.Dials)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start, cpu := time.Now(), lab.CPUTime()
	for i := range took {
		began := time.Now()
		if err := f(); err != nil {
			return cost{}, err
		}
		took[i] = time.Since(began)
	}
	wall, used := time.Since(start), lab.CPUTime()-cpu
	runtime.ReadMemStats(&after)
	slices.Sort(took)
	n := float64(t.Dials)
	return cost{
		Wall:    wall / time.Duration(t.Dials),
		P50:     took[t.Dials/2],
		CPU:     used / time.Duration(t.Dials),
		Mallocs: float64(after.Mallocs-before.Mallocs) / n,
		Bytes:   float64(after.TotalAlloc-before.TotalAlloc) / n,
	}, nil
}
