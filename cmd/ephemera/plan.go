package main

import (
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/ephemera-go/ephemera/alloc"
)

const (
	// spareFiles is what a worker needs besides its connections: pipes, the listener, the poller.
	spareFiles = 100
	// filesPerWorker is what a worker costs its parent: two pipes and a pidfd.
	filesPerWorker = 3
	// fullest is the share of the ports that a run uses towards each listener of its own, in percent: the ports that other
	// programs hold are then no obstacle.
	fullest = 80
	// mostConnections keeps the arithmetic of a plan within 32 bits.
	mostConnections = 100_000_000
	// clientsAtOnce is how many clients dial at a time. Processes that all have a little to do at any time cost more
	// than a few with much: a million connections by 51 clients at once, each taking the destinations in turn, took 530
	// s of CPU time (2 CPUs); by 4 at once, each one destination after the other, 200 s.
	clientsAtOnce = 4
)

// A request is what a plan has to fit.
type request struct {
	connections  int
	ports        alloc.Set // to dial from
	destinations int       // that are there already; 0: the run brings its own
	files        int       // RLIMIT_NOFILE
	stock        bool      // net.Dialer: it may stop short
}

// A plan says which processes do the work.
type plan struct {
	servers int     // one listener each
	clients []share // one process each
}

// A share is the part of the connections that one client opens.
type share struct {
	ports              alloc.Set
	first, connections int
}

// makePlan divides the work, or says why it cannot be done.
func makePlan(r request) (plan, error) {
	perProcess, ports := r.files-spareFiles, r.ports.Len()
	switch {
	case r.connections > mostConnections:
		return plan{}, fmt.Errorf("-n %d: more than %s connections are beyond what one host carries", r.connections, comma(mostConnections))
	case r.connections < 1:
		return plan{}, fmt.Errorf("-n %d: ask for one connection at least", r.connections)
	case ports < 1:
		return plan{}, errors.New("this host has no ports to dial from: " +
			"net.ipv4.ip_local_reserved_ports covers the whole of net.ipv4.ip_local_port_range")
	case perProcess < 1:
		return plan{}, fmt.Errorf("a process may open %s files here, and %d of them are not for connections: raise the limit with ulimit -n",
			comma(r.files), spareFiles)
	}

	var p plan
	destinations := r.destinations
	if destinations == 0 {
		perListener := max(1, min(perProcess, ports*fullest/100))
		p.servers = divideUp(r.connections, perListener)
		destinations = p.servers
	}
	if room := int64(ports) * int64(destinations); int64(r.connections) > room && !r.stock {
		return plan{}, fmt.Errorf("--to names %s, and this host has %s ports to dial from: "+
			"that makes %s connections from one source address at most, not %s; "+
			"name %d listeners, widen net.ipv4.ip_local_port_range, or ask for fewer with -n",
			count(destinations, "listener"), comma(ports), comma(int(room)), comma(r.connections), divideUp(r.connections, ports))
	}

	clients := divideUp(r.connections, perProcess)
	if err := r.watchable(p.servers + clients); err != nil {
		return plan{}, err
	}
	for {
		if clients > ports {
			return plan{}, fmt.Errorf("%s connections need %s processes, as each may open %s files, but there are only %s ports to divide among them: "+
				"raise the limit with ulimit -n, or ask for fewer with -n",
				comma(r.connections), comma(clients), comma(r.files), comma(ports))
		}
		p.clients = divide(r.connections, r.ports, clients)
		if largest(p.clients) <= perProcess {
			break
		}
		clients++
	}
	return p, r.watchable(p.servers + clients)
}

// watchable says why one process cannot watch over so many workers, if it cannot.
func (r request) watchable(workers int) error {
	if workers*filesPerWorker <= r.files-spareFiles {
		return nil
	}
	return fmt.Errorf("%s connections need %s processes, as each may open %s files, and one process cannot watch over so many: "+
		"raise the limit with ulimit -n, or ask for fewer with -n",
		comma(r.connections), comma(workers), comma(r.files))
}

// divide gives each client a slice of the ports, and connections in proportion to it: none gets more of them than its
// ports can carry, however full the destinations become.
func divide(connections int, ports alloc.Set, clients int) []share {
	shares := make([]share, clients)
	first, cut := 0, 0
	for i := range shares {
		slice := ports.Slice(i, clients)
		cut += slice.Len()
		end := int(int64(connections) * int64(cut) / int64(ports.Len()))
		shares[i] = share{ports: slice, first: first, connections: end - first}
		first = end
	}
	return shares
}

func largest(shares []share) int {
	most := 0
	for _, s := range shares {
		most = max(most, s.connections)
	}
	return most
}

func divideUp(a, b int) int { return (a + b - 1) / b }

func comma(n int) string { return humanize.Comma(int64(n)) }

// count returns "1 listener", "2 listeners".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return comma(n) + " " + what + "s"
}
