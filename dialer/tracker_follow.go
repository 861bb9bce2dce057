package dialer

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

const (
	// trackerCheck is how often a Tracker compares its sockets with the kernel's tables even if no message was lost,
	// because the kernel does not report a message for which it had no memory (sock_diag_broadcast_destroy in
	// net/core/sock_diag.c).
	trackerCheck = 5 * time.Minute

	// trackerRetry is how long a Tracker waits before it tries again what failed.
	trackerRetry = time.Second

	// An empty map that had room for more than trackerRoom sockets is replaced.
	trackerRoom = 1024
)

// follower gives back the tuples of the sockets of one protocol. The zero follower does not listen yet.
type follower struct {
	mu       sync.Mutex
	protocol sockdiag.Protocol
	watcher  *sockdiag.Watcher   // nil until it listens
	network  uint64              // its network namespace
	done     chan struct{}       // closed when the goroutine has ended
	held     map[uint64]followed // by the cookie of the socket
	most     int                 // the most entries since held was made
	round    uint64              // how often held was compared with the kernel's tables
	closed   bool
}

// followed is a tuple in use. The follower knows its socket only by the cookie.
type followed struct {
	lease
	real   tuple.Tuple // the tuple in the kernel; not valid if the socket was never connected
	device int         // the index of the device to which the socket is bound; 0 if to none
	seen   uint64      // the last round in which the socket existed
}

// listen begins to listen to the kernel, unless the follower does so already.
func (f *follower) listen(p sockdiag.Protocol, buffer int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return errTrackerClosed
	case f.watcher != nil:
		return nil
	}
	if inBubble() {
		return errBubble
	}
	w, err := sockdiag.Watch(buffer, p)
	if err != nil {
		return fmt.Errorf("a Tracker cannot listen to the kernel: %w", err)
	}
	f.protocol, f.watcher, f.network, f.done = p, w, w.Namespace(), make(chan struct{})
	go f.run(w)
	return nil
}

// close ends the goroutine. It must be called only once.
func (f *follower) close() {
	f.mu.Lock()
	f.closed = true
	w, done := f.watcher, f.done
	f.mu.Unlock()
	if w != nil {
		w.Stop()
		<-done
	}
}

// takes returns an error if the follower cannot follow the socket fd.
func (f *follower) takes(fd int) error {
	f.mu.Lock()
	closed, network := f.closed, f.network
	f.mu.Unlock()
	switch {
	case closed:
		return errTrackerClosed
	case network != 0 && sockopt.Namespace(fd) != network:
		return errElsewhere
	}
	return nil
}

// follow makes the follower give the tuple back when the socket fd is gone. real is its tuple in the kernel, and device
// the index of its device, 0 if none. If the socket is to be connected, connect(2) must have been called before. The
// socket is open, so its message cannot have come yet. If follow fails, the caller still has the tuple.
func (f *follower) follow(fd int, held lease, real tuple.Tuple, device int) error {
	cookie, err := sockopt.Cookie(fd)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errTrackerClosed
	}
	if f.held == nil {
		f.held = make(map[uint64]followed)
	}
	f.held[cookie] = followed{lease: held, real: real, device: device, seen: f.round}
	f.most = max(f.most, len(f.held))
	return nil
}

// run is the goroutine of the follower.
func (f *follower) run(w *sockdiag.Watcher) {
	defer close(f.done)
	defer w.Close()
	check := time.Now().Add(trackerCheck)
	for {
		lost, err := w.Next(time.Until(check), func(cookie uint64) { f.destroyed(w, cookie) })
		if errors.Is(err, os.ErrClosed) {
			break
		}
		if err != nil {
			time.Sleep(trackerRetry)
		}
		if lost || err != nil || !time.Now().Before(check) {
			check = time.Now().Add(trackerCheck)
			if !f.compare(w) {
				check = time.Now().Add(trackerRetry)
			}
		}
	}
	f.compare(w)
	f.mu.Lock()
	left := f.held
	f.held = nil
	f.mu.Unlock()
	for _, one := range left {
		one.abandon()
	}
}

// destroyed gives back the tuple of a socket that is gone, if it was followed.
func (f *follower) destroyed(w *sockdiag.Watcher, cookie uint64) {
	if one, ok := f.drop(cookie); ok {
		s := f.look(one, w, cookie, 1) // once is enough: when the message comes, TIME_WAIT can be found
		s.giveBack(f.protocol)
	}
}

func (f *follower) drop(cookie uint64) (followed, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one, ok := f.held[cookie]
	if !ok {
		return one, false
	}
	if delete(f.held, cookie); len(f.held) == 0 && f.most > trackerRoom {
		f.held, f.most = nil, 0 // maps do not shrink
	}
	return one, true
}

// sight is what the kernel says about a socket that was followed.
type sight struct {
	followed
	exists bool
	left   sockdiag.Socket // what is left of its connection; its State is 0 if nothing is
	err    error
}

// look asks the kernel whether a socket exists and, if not, what is left of its connection. It asks up to the given
// number of times if there is nothing: see the function look.
func (f *follower) look(one followed, w *sockdiag.Watcher, cookie uint64, times int) (s sight) {
	s.followed = one
	if !one.real.IsValid() {
		return s
	}
	if f.protocol == sockdiag.UDP {
		local := netip.AddrPortFrom(netip.Addr{}, one.real.Src().Port())
		q := sockdiag.Query{Protocol: sockdiag.UDP, Local: sockdiag.At(local)}
		for socket, err := range w.All(q) {
			if s.err = err; err != nil || socket.Cookie == cookie {
				s.exists = err == nil
				break
			}
		}
		return s
	}
	for range times {
		socket, found, err := w.Find(sockdiag.Exact{Local: one.real.Src(), Remote: one.real.Dst(), Device: one.device})
		if s.err = err; err != nil {
			return s
		}
		if found {
			if s.exists = is(socket, cookie); !s.exists {
				s.left = socket
			}
			return s
		}
	}
	return s
}

// giveBack gives back the tuple of a socket that is gone.
func (s *sight) giveBack(p sockdiag.Protocol) {
	switch {
	case p == sockdiag.UDP:
		s.end(ending{how: tuple.Datagram})
	case s.err != nil:
		s.abandon()
	case s.left.State == sockdiag.FinWait2: // TIME_WAIT is still to come
		local, remote := s.left.Local.Addr(), s.left.Remote.Addr()
		s.end(ending{how: tuple.ActiveClose, local: local, remote: remote, timestamps: true})
	case s.left.State != 0:
		s.retire(tuple.ActiveClose, currentSettings().untilFree(&s.left))
	case !s.real.IsValid():
		s.end(ending{how: tuple.NeverEstablished})
	default:
		s.end(ending{how: tuple.PassiveClose})
	}
}

// is reports whether s is the socket with the cookie itself, and not what is left of it.
func is(s sockdiag.Socket, cookie uint64) bool { return s.Cookie == cookie && !s.IsLeftOver() }

// compare gives back the tuples of sockets that are gone without a message. It reports whether the kernel answered all
// questions.
//
// A socket that was followed before the question is in the answer or gone. Or it is in no table, because its connection
// failed or was reset, and is not closed yet. The last two cases look the same, and in both the kernel has no tuple any
// more. A walk can also miss a socket that exists, if others in its hash chain go meanwhile. So compare asks for each
// missing socket by itself, and an interrupted answer is good enough.
func (f *follower) compare(w *sockdiag.Watcher) bool {
	f.mu.Lock()
	f.round++
	round, empty := f.round, len(f.held) == 0
	f.mu.Unlock()
	if empty {
		return true
	}
	q := sockdiag.Query{Protocol: f.protocol}
	if f.protocol == sockdiag.TCP {
		q.States = livingStates
	}
	for s, err := range w.All(q) {
		if err != nil {
			if !errors.Is(err, sockdiag.ErrInterrupted) {
				return false
			}
			break
		}
		if !s.IsLeftOver() {
			f.mark(s.Cookie, round)
		}
	}
	all := true
	for cookie, one := range f.missing(round) {
		switch s := f.look(one, w, cookie, 2); {
		case s.err != nil:
			all = false
		case !s.exists:
			f.drop(cookie)
			s.giveBack(f.protocol)
		}
	}
	return all
}

func (f *follower) mark(cookie, round uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one, ok := f.held[cookie]; ok {
		one.seen = round
		f.held[cookie] = one
	}
}

// missing returns the sockets that were followed before the round and were not seen in it.
func (f *follower) missing(round uint64) map[uint64]followed {
	f.mu.Lock()
	defer f.mu.Unlock()
	missing := make(map[uint64]followed)
	for cookie, one := range f.held {
		if one.seen != round {
			missing[cookie] = one
		}
	}
	return missing
}
