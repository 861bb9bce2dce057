package dialer

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// A difference counts if several looks at the kernel see it, and the pool does not change between two of them.
const (
	looks   = 4  // how often to compare the pool with the kernel
	glances = 10 // how often to look at the pool between two comparisons, at least 1 ms apart
)

// slack is how much later than the pool the kernel may let a new connection have a tuple in TIME_WAIT.
const slack = time.Second

// Audit compares the tuples that the pool holds with the sockets of the kernel, one by one. It returns the differences
// in the order of Tuple.Compare. The network is "tcp" or "udp". A nil pool means the HostPool. These are differences:
//
//   - A tuple is in use and has no socket. That includes a connection that the peer has reset and that is not closed
//     yet, and a closed one whose Tracker has not heard of it yet.
//   - A tuple is free and has a socket of any process, or is in TIME_WAIT and the kernel does not let a new connection
//     have it. That can be true for a moment after a passive close (LAST-ACK). It can also be true if the peer closed
//     long after us, because the pool counts from our close and the kernel from the peer's.
//   - A tuple cools down and has a socket that a process holds.
//   - A tuple has several sockets with the same local address and port. The kernel allows it for UDP. Under a
//     Pool.Scope it means that two connections look the same behind the NAT.
//   - The pool hands out a port that has a listener. See ListeningPorts.
//
// These are not differences:
//
//   - A tuple is in use and has a socket in any state. TIME_WAIT counts, because its connection may not be closed yet.
//   - A tuple cools down and has no socket, is in TIME_WAIT, or has a socket that no process holds any more.
//   - A tuple is taken, whatever the kernel has.
//   - The time of a TIME_WAIT is over, but the kernel has not removed it yet.
//   - The pool neither holds nor hands out the tuple.
//
// If a BPF program changes the destination of a connection, its socket counts for the destination that was dialled, as
// long as the kernel reports the new destination as the peer.
//
// The pool and the kernel change between two looks. So Audit looks at a difference again, and reports it only if 4
// looks at the kernel and 30 at the pool, over 30 ms or more, show it with the same socket or the same use of the
// tuple. What comes and goes within that time is not reported. A dial or close that takes longer may be reported: one
// with a Control that blocks or, before Linux 6.3, a dial that is not answered and whose port the pool does not know
// yet.
//
// A look at the kernel takes about 2 µs and 300 bytes for each socket, measured with 100,800. One look is enough if
// nothing differs.
//
// Audit needs Linux. On other systems the error Is errors.ErrUnsupported. It looks at the network namespace of the
// calling thread, in which the pool should be used.
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
		if f.Kernel == "" && network == "udp" && p.Scope == nil { // the walks may have missed a socket
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

// findings are the differences of one look, by the tuple of the sockets or, if there is none, by the tuple in the pool.
type findings map[tuple.Tuple]*finding

type finding struct {
	Difference
	inodes []uint32 // of the sockets, without duplicates
}

// compare looks at the pool and the kernel once.
func compare(network string, p *tuple.Pool) (findings, error) {
	inUse := map[tuple.Tuple]struct{}{} // without a socket so far
	for t, state := range p.All() {
		if state == tuple.InUse {
			inUse[t] = struct{}{}
		}
	}
	translated := map[tuple.Tuple]tuple.Tuple{} // by the tuple in the kernel
	for t, remote := range ledgerOf(p).translated() {
		translated[entry(p, tuple.From(t.Src(), remote))] = t
	}
	found := findings{}
	settings := currentSettings()
	first := map[tuple.Tuple]uint32{} // the inode of the first socket, by its tuple
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

// add records a socket, and the inodes of others with the same tuple.
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

// withoutSocket yields the tuples in use that have no socket.
func (found findings) withoutSocket(yield func(tuple.Tuple) bool) {
	for e, f := range found {
		if f.Kernel == "" && !yield(e) {
			return
		}
	}
}

// watch looks only at the pool for a while, and drops the differences whose state changes.
func (found findings) watch(p *tuple.Pool) {
	for range glances {
		time.Sleep(time.Millisecond)
		for e, f := range found {
			hasState := f.Kernel != "" && f.Pool != tuple.Foreign // pools.Watch does it for tuples without a socket
			if hasState && p.State(f.Tuple) != f.Pool {
				delete(found, e)
			}
		}
	}
}

// alsoIn returns the findings that a later look shows too, with the same sockets, as the later look saw them.
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
