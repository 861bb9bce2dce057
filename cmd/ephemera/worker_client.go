package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/tuple"
)

const (
	// dialsAtOnce is how many dials a client has in flight. Multiplied by clientsAtOnce it is 128, which is what the
	// accept queue of a listener holds on old systems. If that queue overflows, the client waits for a second.
	dialsAtOnce = 32
	// reportEvery is the time between two progress reports of a client.
	reportEvery = 200 * time.Millisecond
)

// dialFunc is DialContext of a net.Dialer or a dialer.Dialer.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// run opens the connections and reports progress. It ends when all are open, or at the first error.
func (j *clientJob) run(held *holder, send func(report)) {
	var (
		dial    = j.dialer()
		next    = make(chan netip.AddrPort)
		failed  = make(chan struct{})
		failure error
		once    sync.Once
		wg      sync.WaitGroup
	)
	go func() {
		defer close(next)
		for dst := range j.destinations() {
			select {
			case next <- dst:
			case <-failed:
				return
			}
		}
	}()
	for range dialsAtOnce {
		wg.Go(func() {
			buf := make([]byte, 1)
			for dst := range next {
				conn, err := j.open(dial, dst.String(), buf)
				if err != nil {
					once.Do(func() { failure = err; close(failed) })
					return
				}
				held.add(conn)
			}
		})
	}

	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			send(report{Open: held.len()})
		case <-ended:
			last := report{Open: held.len(), Ended: true}
			if failure != nil {
				last.Error = failure.Error()
			}
			debug.FreeOSMemory() // to hold connections takes less memory than to dial them
			send(last)
			return
		}
	}
}

// destinations yields the destination of each connection, in the order in which the client opens them.
func (j *clientJob) destinations() iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		n := len(j.To)
		for k := range n {
			to := (j.Start + k) % n
			for i := j.First + (to-j.First%n+n)%n; i < j.First+j.Connections; i += n {
				if !yield(j.To[to]) {
					return
				}
			}
		}
	}
}

// open dials and, if the other end echoes, checks that the connection works.
func (j *clientJob) open(dial dialFunc, to string, buf []byte) (net.Conn, error) {
	conn, err := dial(context.Background(), "tcp", to)
	if full, ok := errors.AsType[*tuple.ExhaustedError](err); ok && full.Taken > 0 {
		return nil, fmt.Errorf("%w; other programs on this host hold ports: end them (ss -tanp shows them), "+
			"or ask for fewer connections with -n (%s ports)", err, comma(full.Taken))
	}
	if err != nil || !j.Echo {
		return conn, err
	}
	if err := ping(conn, buf); err != nil {
		conn.Close()
		return nil, fmt.Errorf("a connection is open but does not echo: %w (%s->%s)", err, conn.LocalAddr(), to)
	}
	return conn, nil
}

// ping sends one byte and waits for it to come back.
func ping(conn net.Conn, buf []byte) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	probe := byte(rand.Uint32())
	buf[0] = probe
	if _, err := conn.Write(buf); err != nil {
		return err
	}
	if _, err := conn.Read(buf); err != nil {
		return err
	}
	if buf[0] != probe {
		return fmt.Errorf("byte %d came back as %d", probe, buf[0])
	}
	return conn.SetDeadline(time.Time{})
}

// dialer returns the dialer that the run tests.
func (j *clientJob) dialer() dialFunc {
	// A million idle connections need no keepalive probes. resetOnClose leaves no TIME_WAIT behind, however the process
	// ends.
	base := net.Dialer{Timeout: patience, KeepAlive: -1, Control: resetOnClose}
	if j.Stock {
		base.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(j.Source, 0))
		return base.DialContext
	}
	d := dialer.Dialer{
		NetDialer: &base,
		TCP:       &tuple.Pool{Sources: []netip.Prefix{netip.PrefixFrom(j.Source, j.Source.BitLen())}, Ports: j.Ports},
	}
	return d.DialContext
}
