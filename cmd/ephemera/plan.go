package main

import (
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/ephemera-go/ephemera/alloc"
)

const (
	// spareFiles is how many files a worker needs besides its connections: pipes, the listener, the poller.
	spareFiles = 100
	// filesPerWorker is how many files a worker needs in its parent: two pipes and a pidfd.
	filesPerWorker = 3
	// fullest is the share of the ports that a run uses towards each of its own listeners, in percent. It leaves room
	// for ports that other programs hold.
	fullest = 80
	// mostConnections keeps the arithmetic of a plan within 32 bits.
	mostConnections = 100_000_000
	// clientsAtOnce is how many clients dial at a time. A few busy processes cost less than many that are idle most of
	// the time. With 2 CPUs, a million connections took 530 s of CPU time when 51 clients dialed at once and took the
	// destinations in turn. They took 200 s when 4 dialed at once, one destination after the other.
	clientsAtOnce = 4
)

// A request is what a plan must satisfy.
type request struct {
	connections  int
	ports        alloc.Set // to dial from
	destinations int       // given listeners; 0: the run starts its own
	files        int       // RLIMIT_NOFILE
	stock        bool      // dial with net.Dialer, which may stop before all are open
}

// A plan is the processes that do the work.
type plan struct {
	servers int     // one listener each
	clients []share // one process each
}

// A share is the part of the connections that one client opens.
type share struct {
	ports              alloc.Set
	first, connections int
}

// makePlan divides the work. The error says why it cannot be done.
func makePlan(r request) (plan, error) {
	perProcess, ports := r.files-spareFiles, r.ports.Len()
	switch {
	case r.connections > mostConnections:
		return plan{}, fmt.Errorf("-n is more than one host carries: ask for at most %s connections (-n %d)",
			comma(mostConnections), r.connections)
	case r.connections < 1:
		return plan{}, fmt.Errorf("-n is less than 1: ask for at least one connection (-n %d)", r.connections)
	case ports < 1:
		return plan{}, errors.New("this host has no ports to dial from: " +
			"net.ipv4.ip_local_reserved_ports covers all of net.ipv4.ip_local_port_range; reserve fewer")
	case perProcess < 1:
		return plan{}, fmt.Errorf("a process may open too few files: raise the limit with ulimit -n "+
			"(%s files, and it needs %d besides the connections)", comma(r.files), spareFiles)
	}

	var p plan
	destinations := r.destinations
	if destinations == 0 {
		perListener := max(1, min(perProcess, ports*fullest/100))
		p.servers = divideUp(r.connections, perListener)
		destinations = p.servers
	}
	if room := int64(ports) * int64(destinations); int64(r.connections) > room && !r.stock {
		return plan{}, fmt.Errorf("--to names too few listeners: name more, widen net.ipv4.ip_local_port_range, "+
			"or ask for fewer connections with -n (%s and %s ports make at most %s connections, not %s; "+
			"name %d listeners)", count(destinations, "listener"), comma(ports), comma(int(room)),
			comma(r.connections), divideUp(r.connections, ports))
	}

	clients := divideUp(r.connections, perProcess)
	if err := r.watchable(p.servers + clients); err != nil {
		return plan{}, err
	}
	for {
		if clients > ports {
			return plan{}, fmt.Errorf("the connections need more processes than there are ports to divide among them: "+
				"raise the limit with ulimit -n, or ask for fewer with -n "+
				"(%s connections, %s processes of %s files, %s ports)",
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

// watchable returns an error if one process cannot watch this many workers.
func (r request) watchable(workers int) error {
	if workers*filesPerWorker <= r.files-spareFiles {
		return nil
	}
	return fmt.Errorf("the connections need more processes than one process can watch: "+
		"raise the limit with ulimit -n, or ask for fewer with -n (%s connections, %s processes of %s files)",
		comma(r.connections), comma(workers), comma(r.files))
}

// divide gives each client a slice of the ports, and connections in proportion to the slice. So no client gets more
// connections than its ports can carry, however full the destinations become.
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
