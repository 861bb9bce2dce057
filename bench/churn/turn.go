//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/bench/internal/lab"
)

// turn asks a contender to dial and close for a while.
type turn struct {
	Contender string
	Cell      cell
	Ports     alloc.Set
	AtOnce    int // goroutines
	For       time.Duration
}

// result is the result of a turn.
type result struct {
	OK, Failed int
	P50, P99   time.Duration // of a dial that succeeded
	CPU        time.Duration // of the client's process, in total
}

// run takes a turn in the network namespace of this process, which must be empty.
func (t turn) run() (result, error) {
	first, last, err := ends(t.Ports)
	if err != nil {
		return result{}, err
	}
	network, err := lab.Open(t.Cell.Network, lab.Service{Destinations: t.Cell.Upstreams},
		fmt.Sprintf("ipv4/ip_local_port_range=%d %d", first, last),
		fmt.Sprintf("ipv4/tcp_tw_reuse=%d", t.Cell.Reuse))
	if err != nil {
		return result{}, err
	}
	defer network.Close()
	dial, err := newContender(t.Contender, network.Source, t.Ports)
	if err != nil {
		return result{}, err
	}
	var to []string
	for _, d := range network.Destinations {
		to = append(to, d.String())
	}
	return t.churn(dial, to), nil
}

// ends returns the first and the last port of a range, both inclusive.
func ends(ports alloc.Set) (first, last uint16, err error) {
	all := slices.Collect(ports.All())
	n := len(all)
	if n < 2 || int(all[n-1])-int(all[0]) != n-1 || all[0] < 1024 || n%2 != 0 {
		return 0, 0, fmt.Errorf("-ports: use one range from 1024 on with an even number of ports, "+
			"because connect never uses the last port of an odd range (%v)", ports)
	}
	return all[0], all[n-1], nil
}

// churn makes all goroutines dial and close until the time is over.
func (t turn) churn(dial dialFunc, to []string) result {
	workers := make([]worker, t.AtOnce)
	var running sync.WaitGroup
	start, before := time.Now(), lab.CPUTime()
	for i := range workers {
		w := &workers[i]
		*w = worker{dial: dial, to: to, next: i, start: start, until: start.Add(t.For)}
		w.pace = spread * time.Duration(t.AtOnce) / time.Duration(t.Ports.Len()*len(to))
		running.Go(w.run)
	}
	running.Wait()
	r := result{CPU: lab.CPUTime() - before}
	var took []time.Duration
	var last error
	for _, w := range workers {
		took = append(took, w.took...)
		r.Failed += w.failed
		if w.err != nil {
			last = w.err
		}
	}
	if r.OK = len(took); r.OK > 0 {
		slices.Sort(took)
		r.P50, r.P99 = took[r.OK/2], took[r.OK*99/100]
	}
	if r.Failed > 0 {
		log.Printf("%s: dials failed, for example: %v (%d dials)", t.Cell.name(t.Contender, t.Ports), last, r.Failed)
	}
	return r
}

// worker is one of the goroutines that dial.
type worker struct {
	dial  dialFunc
	to    []string
	next  int // the destination of the next dial
	start time.Time
	until time.Time
	pace  time.Duration

	took   []time.Duration // of each dial that succeeded
	failed int
	err    error // the last one
}

const (
	// spread is how long the workers take to use every tuple once, at the start of a turn. Without it, all tuples of a
	// small range would become free at one moment of each second, if the kernel ends TIME_WAIT after a second.
	spread = time.Second

	// pause follows a dial that failed. Without it, the client would take the processor from the server.
	pause = time.Millisecond
)

// run dials, reads the byte that the server sends after it has accepted, and closes first.
func (w *worker) run() {
	for {
		began := time.Now()
		if !began.Before(w.until) {
			return
		}
		c, err := w.dial("tcp", w.to[w.next%len(w.to)])
		took := time.Since(began)
		w.next++
		if err == nil {
			err = readAndClose(c)
		}
		if err != nil {
			w.failed, w.err = w.failed+1, err
			time.Sleep(pause)
			continue
		}
		w.took = append(w.took, took)
		if began.Sub(w.start) < spread {
			time.Sleep(w.pace)
		}
	}
}

func readAndClose(c net.Conn) error {
	_, err := io.ReadFull(c, make([]byte, 1))
	return errors.Join(err, c.Close())
}
