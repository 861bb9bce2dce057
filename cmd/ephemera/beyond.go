package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
)

var errInterrupted = errors.New("interrupted; all connections are closed and all worker processes have ended")

type beyondCmd struct {
	Connections int `short:"n" default:"65537" placeholder:"N" help:"How many connections (default ${default})."`

	Source netip.Addr `default:"127.0.0.1" placeholder:"ADDR" help:"The one source address (default ${default})."`

	To []string `placeholder:"HOST:PORT,…" help:"Dial these listeners instead of own ones. No byte is sent to them."`

	Stock bool `help:"Dial with net.Dialer{LocalAddr: ADDR:0} instead, to see where it stops."`

	Hold time.Duration `placeholder:"DURATION" help:"Keep the connections open after the count (see ss -tn)."`
}

// Help is the long help text.
func (*beyondCmd) Help() string {
	return `Opens 65,537 TCP connections from one source address to a few listeners on this host, sends a byte ` +
		`through each and holds them all. Then asks the kernel how many are ESTABLISHED and on how many local ports. ` +
		`There are fewer ports than connections, because ephemera's dialer lets one port serve every destination. ` +
		`The exit status is 0 only if the kernel's count confirms it.

If a process may not open enough files (RLIMIT_NOFILE), several share the work. Nothing is left behind, not even ` +
		`after Ctrl-C.`
}

// Run checks, plans and does a run.
func (b *beyondCmd) Run(ctx context.Context) error {
	if err := supported(); err != nil {
		return err
	}
	source := b.Source.Unmap()
	if source.IsUnspecified() || source.IsMulticast() || source.Zone() != "" {
		return fmt.Errorf("--source is not one address to dial from: name an address of this host (%s)", b.Source)
	}
	var to []netip.AddrPort
	if len(b.To) > 0 {
		var err error
		if to, err = parseDestinations(ctx, strings.Join(b.To, ","), source); err != nil {
			return err
		}
	}
	ports, err := dialer.HostPorts()
	if err != nil {
		return err
	}
	files, err := openFiles()
	if err != nil {
		return err
	}
	p, err := makePlan(request{
		connections: b.Connections, ports: ports, destinations: len(to), files: files, stock: b.Stock,
	})
	if err != nil {
		return err
	}
	mem, err := readMemory()
	if err != nil {
		return err
	}
	if err := enoughMemory(b.Connections, len(to) == 0, mem.available); err != nil {
		return err
	}
	b.announce(p, len(to), files)

	c := newCrew(ctx)
	defer c.close()
	if len(to) == 0 {
		if to, err = listen(c, p.servers, ports, source); err != nil {
			return err
		}
	}
	return b.prove(c, p, result{source: source, to: to, echoed: p.servers > 0, memory: mem.inUse})
}

// prove opens the connections, has the kernel count them and prints the result. r.memory is at first the memory in use
// before the run.
func (b *beyondCmd) prove(c *crew, p plan, r result) error {
	before, err := kernelCount(r.source, r.to)
	if err != nil {
		return err
	}
	if before.connections > 0 {
		return fmt.Errorf("these listeners already have connections from the source address, which the kernel would "+
			"count too: dial from another --source (%s from %s)", count(before.connections, "connection"), r.source)
	}

	began := time.Now()
	stopped, err := b.dial(c, p, r)
	if err != nil {
		return err
	}
	r.took = time.Since(began)
	after, err := readMemory()
	if err != nil {
		return err
	}
	r.memory = after.inUse - r.memory
	if r.kernel, err = kernelCount(r.source, r.to); err != nil {
		return err
	}
	if err := c.failure(); err != nil {
		return err
	}
	if _, err := os.Stdout.WriteString(r.table()); err != nil {
		return err
	}
	b.hold(c)
	return b.verdict(r.kernel, stopped)
}

// announce prints what the run will do, and what might stand in its way.
func (b *beyondCmd) announce(p plan, given, files int) {
	to, listening := count(given, "listener"), ""
	if given == 0 {
		to = count(p.servers, "listener") + " of its own"
		listening = fmt.Sprintf("%d to listen, ", p.servers)
	}
	fmt.Fprintf(os.Stderr, "Opening %s from %s to %s.\n", count(b.Connections, "connection"), b.Source, to)
	fmt.Fprintf(os.Stderr, "Processes: %s%d to dial; each may open %s files (RLIMIT_NOFILE).\n",
		listening, len(p.clients), comma(files))
	if room, tracking := conntrackRoom(); tracking && room < b.Connections {
		fmt.Fprintf(os.Stderr, "Note: nf_conntrack has room for %s only. If dials time out, raise "+
			"net.netfilter.nf_conntrack_max.\n", count(room, "more connection"))
	}
}

// listen starts the servers of a run and returns the addresses that they listen on.
func listen(c *crew, servers int, avoid alloc.Set, source netip.Addr) ([]netip.AddrPort, error) {
	for i := range servers {
		if err := c.start(i, job{Server: &serverJob{Address: ownAddress(i, source), Avoid: avoid}}); err != nil {
			return nil, err
		}
	}
	to := make([]netip.AddrPort, servers)
	for range servers {
		r, err := c.next()
		if err != nil {
			return nil, err
		}
		if r.Error != "" {
			return nil, errors.New(r.Error)
		}
		to[r.worker] = r.Listening
	}
	return to, nil
}

// dial runs the clients, a few at a time, and waits until all have ended. It returns the error that stopped the stock
// dialer, if one did. Any other error ends the run.
func (b *beyondCmd) dial(c *crew, p plan, r result) (stopped string, err error) {
	bar := newProgress(os.Stderr, b.Connections)
	defer bar.end()
	open, total := make([]int, len(p.clients)), 0
	for started, working := 0, 0; ; {
		for ; working < clientsAtOnce && started < len(p.clients) && stopped == ""; started++ {
			share := p.clients[started]
			j := clientJob{
				Source: r.source, Ports: share.ports, To: r.to, Start: started % len(r.to), First: share.first,
				Connections: share.connections, Echo: r.echoed, Stock: b.Stock,
			}
			if err := c.start(p.servers+started, job{Client: &j}); err != nil {
				return "", err
			}
			working++
		}
		if working == 0 {
			return stopped, nil
		}
		said, err := c.next()
		if err != nil {
			return "", err
		}
		if said.Error != "" && (!b.Stock || !said.Ended) {
			return "", errors.New(said.Error + r.hint())
		}
		i := said.worker - p.servers
		total += said.Open - open[i]
		open[i] = said.Open
		bar.set(total)
		if said.Ended {
			working--
		}
		if stopped == "" {
			stopped = said.Error
		}
	}
}

// hold keeps the connections open for b.Hold.
func (b *beyondCmd) hold(c *crew) {
	if b.Hold <= 0 {
		return
	}
	fmt.Fprintf(os.Stderr, "Holding for %s; press Ctrl-C to end.\n", b.Hold)
	select {
	case <-time.After(b.Hold):
	case <-c.ctx.Done():
	}
}

// verdict compares the kernel's count with what was asked for.
func (b *beyondCmd) verdict(kernel tally, stopped string) error {
	asked := comma(b.Connections)
	switch {
	case kernel.connections == b.Connections:
		return nil
	case stopped != "":
		return fmt.Errorf("net.Dialer stopped at %s of the %s connections asked for: %s",
			comma(kernel.connections), asked, stopped)
	default:
		return fmt.Errorf("not all connections are ESTABLISHED: the other end, or something on the way, closed some "+
			"(%s opened; the kernel counts %s as ESTABLISHED)", asked, comma(kernel.connections))
	}
}
