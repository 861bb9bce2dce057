package dialer

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

const (
	looks   = 4  // how often a difference must be seen, and
	glances = 10 // how often, at least 1 ms apart, the pool must say the same between two of them
)

// slack is how much later than the pool the kernel may let TIME_WAIT be reused.
const slack = time.Second

// Audit compares what the pool holds with the sockets that the kernel has, tuple by tuple, and returns what differs,
// in the order of Tuple.Compare. The network is "tcp" or "udp"; a nil pool means the HostPool. These differ:
//
//   - a tuple that is in use, and has no socket. A connection that the peer has reset and that is not closed yet is
//     one, and one that is closed and whose Tracker has not heard of it yet;
//   - a tuple that is free, and has a socket, of whatever process, or is in TIME_WAIT from which the kernel does not
//     let a new connection have it. One that we have closed after the peer did (LAST-ACK) is so for a moment, and one
//     whose peer closed long after us, because the pool counts from our close and the kernel from the peer's;
//   - a tuple that cools down, and has a socket that a process holds;
//   - a tuple with two sockets or more from the same local address and port: the kernel allows it for UDP, and under a
//     Pool.Scope it means that two connections look the same to somebody;
//   - a port that the pool hands out, and on which somebody listens: see ListeningPorts.
//
// These agree: a tuple in use with a socket in any state, TIME_WAIT included, because its connection may not be
// closed yet; one that cools down with no socket, with one in TIME_WAIT, or with one that no process holds any more;
// one that is taken, whatever the kernel has; and TIME_WAIT whose time is over, though the kernel has not cleared it
// away yet. A tuple that the pool neither hands out nor holds is not looked at. A connection whose destination a BPF
// program has exchanged is looked at where it leads, if the kernel names that as its peer.
//
// The pool and the kernel cannot be looked at in one instant, and both change. So what differs is looked at again,
// and reported only if each of 4 looks at the kernel and of 30 at the pool, over 30 ms or more, found it so, with the
// same socket or the same use of the tuple. A dial or a close under way is none, unless it takes that long: a Control
// of NetDialer that blocks, or before Linux 6.3 a dial that is not answered, whose port the pool does not know yet.
// Conversely, what comes and goes within that time is not reported.
//
// A look takes some 2 µs and 300 bytes for each socket, measured with 100,800. There is one look if nothing differs.
//
// Audit takes Linux: elsewhere the error Is errors.ErrUnsupported. It concerns the calling thread's network
// namespace, in which the pool should be used.
func Audit(network string, p *tuple.Pool) ([]Difference, error) {
	p, err := orHost(network, p)
	if err != nil {
		return nil, err
	}
	found, err := compare(network, p)
	ended, stop := pools.Watch(p, found.withoutSocket)
	defer stop()
	for range looks - 1 {
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			break
		}
		found.watch(p)
		var again findings
		again, err = compare(network, p)
		found = found.alsoIn(again)
	}
	if err != nil {
		return nil, err
	}
	var list []Difference
	for e, f := range found {
		if ended(e) {
			continue
		}
		if f.Kernel == "" && network == "udp" && p.Scope == nil { // walks may have missed it
			switch missed, err := hasSocket(network, e.Src(), e.Dst()); {
			case err != nil:
				return nil, err
			case missed:
				continue
			}
		}
		list = append(list, f.Difference)
	}
	slices.SortFunc(list, func(a, b Difference) int { return a.Tuple.Compare(b.Tuple) })
	return list, nil
}

// findings are the differences of one look, by the end of the sockets or, where there is none, the entry of the pool.
type findings map[tuple.Tuple]*finding

type finding struct {
	Difference
	inodes []uint32 // of the sockets, each once
}

// compare compares once.
func compare(network string, p *tuple.Pool) (findings, error) {
	inUse := map[tuple.Tuple]struct{}{} // what has no socket so far
	for t, state := range p.All() {
		if state == tuple.InUse {
			inUse[t] = struct{}{}
		}
	}
	translated := map[tuple.Tuple]tuple.Tuple{} // by what the kernel has
	for t, remote := range ledgerOf(p).translated() {
		translated[entry(p, tuple.From(t.Src(), remote))] = t
	}
	found := findings{}
	settings := currentSettings()
	first := map[tuple.Tuple]uint32{} // the inode of the first socket that has this end
	for s, err := range sockets(network, true) {
		if err != nil {
			return nil, err
		}
		if t, ok := translated[entry(p, tuple.From(s.Local, s.Remote))]; ok {
			s.Remote = t.Dst()
		}
		state := p.State(tuple.From(s.Local, s.Remote))
		if state == tuple.Foreign {
			continue
		}
		e := end(p, &s)
		delete(inUse, entry(p, e))
		if before, ok := first[e]; ok && s.Inode != 0 && s.Inode != before {
			found.add(e, state, &s, before)
		} else if s.Inode != 0 {
			first[e] = s.Inode
		}
		// The pool counts from our close, and the kernel from the peer's.
		isOver := s.State == sockdiag.TimeWait && (s.Expires == 0 || settings.untilReused(&s) < slack)
		if state == tuple.Free && !isOver || state == tuple.Retired && s.Inode != 0 {
			found.add(e, state, &s)
		}
	}
	for t := range inUse {
		found[t] = &finding{Difference: Difference{Tuple: t, Pool: tuple.InUse}}
	}
	for s, err := range sockets(network, false) {
		if err != nil {
			return nil, err
		}
		if a := s.Local.Addr(); pools.HandsOut(p, a, s.Local.Port()) ||
			a == netip.IPv6Unspecified() && pools.HandsOut(p, netip.IPv4Unspecified(), s.Local.Port()) {
			found.add(tuple.From(s.Local, netip.AddrPort{}), tuple.Foreign, &s)
		}
	}
	return found, nil
}

// add enters a socket, and the inodes of others with the same end.
func (found findings) add(e tuple.Tuple, state tuple.State, s *sockdiag.Socket, others ...uint32) {
	f := found[e]
	if f == nil {
		f = &finding{Difference: Difference{Tuple: tuple.From(s.Local, s.Remote)}}
		if state == tuple.Foreign {
			f.Tuple = e
		}
		found[e] = f
	}
	f.Pool, f.Kernel, f.Expires, f.UID = state, s.State.String(), s.Expires, s.UID
	for _, inode := range append(others, s.Inode) {
		if !slices.Contains(f.inodes, inode) {
			f.inodes = append(f.inodes, inode)
		}
	}
	f.Sockets = len(f.inodes)
}

// withoutSocket ranges over the tuples in use that have none.
func (found findings) withoutSocket(yield func(tuple.Tuple) bool) {
	for e, f := range found {
		if f.Kernel == "" && !yield(e) {
			return
		}
	}
}

// watch looks at the pool alone for a while, and drops what does not stay.
func (found findings) watch(p *tuple.Pool) {
	for range glances {
		time.Sleep(time.Millisecond)
		for e, f := range found {
			hasState := f.Kernel != "" && f.Pool != tuple.Foreign // a Watch knows better of what has no socket
			if hasState && p.State(f.Tuple) != f.Pool {
				delete(found, e)
			}
		}
	}
}

// alsoIn returns what a later look has found too, of the same sockets, as that saw it.
func (found findings) alsoIn(later findings) findings {
	both := findings{}
	for e, f := range found {
		l := later[e]
		if l == nil || l.Pool != f.Pool || len(l.inodes) == 0 != (len(f.inodes) == 0) {
			continue
		}
		l.inodes = slices.DeleteFunc(l.inodes, func(inode uint32) bool { return !slices.Contains(f.inodes, inode) })
		l.Sockets = len(l.inodes)
		enough := 1
		switch {
		case f.Kernel == "":
			enough = 0
		case f.Pool == tuple.InUse:
			enough = 2
		}
		if l.Sockets >= enough {
			both[e] = l
		}
	}
	return both
}
