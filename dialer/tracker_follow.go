package dialer

import (
	"errors"
	"os"
	"time"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

const (
	// trackerCheck is how often a Tracker compares what it follows with the kernel's tables though no message was lost: the
	// kernel does not say so if it has no memory for one (sock_diag_broadcast_destroy in net/core/sock_diag.c).
	trackerCheck = 5 * time.Minute

	// trackerRetry is when it tries again what failed.
	trackerRetry = time.Second

	// trackerRoom is the number of connections up to which a map that has emptied is kept.
	trackerRoom = 1024
)

// followed is a tuple in use by a socket that the Tracker knows only by its cookie.
type followed struct {
	lease
	real  tuple.Tuple // with the source address that the kernel chose; not valid if the socket was never connected
	blind bool        // sockdiag.Lookup does not find the socket
	seen  uint64      // the round in which the socket was last known to exist
}

// takes returns an error if the Tracker cannot follow the socket fd.
func (t *Tracker) takes(fd int) error {
	t.mu.Lock()
	closed, network := t.closed, t.network
	t.mu.Unlock()
	switch {
	case closed:
		return errTrackerClosed
	case !sockopt.IsTCP(fd):
		return errMultipath
	case network != 0 && sockopt.Namespace(fd) != network:
		return errElsewhere
	}
	return nil
}

// follow makes the Tracker give the tuple back when the socket fd is gone, to which connect(2) was called before if it is to
// be connected from real. The socket is open, so no message of its end can have come before. On an error the caller still
// has the tuple.
func (t *Tracker) follow(fd int, held lease, real tuple.Tuple) error {
	cookie, err := sockopt.Cookie(fd)
	if err != nil {
		return err
	}
	f := followed{lease: held, real: real}
	f.blind = real.IsValid() && (isOnDevice(real.Dst().Addr()) || sockopt.OnDevice(fd))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errTrackerClosed
	}
	if t.held == nil {
		t.held = make(map[uint64]followed)
	}
	f.seen = t.round
	t.held[cookie] = f
	t.most = max(t.most, len(t.held))
	return nil
}

// run is the goroutine of the Tracker.
func (t *Tracker) run(w *sockdiag.Watcher) {
	defer close(t.done)
	defer w.Close()
	check := time.Now().Add(trackerCheck)
	for {
		lost, err := w.Next(time.Until(check), func(cookie uint64) { t.destroyed(w, cookie) })
		if errors.Is(err, os.ErrClosed) {
			break
		}
		if err != nil {
			time.Sleep(trackerRetry)
		}
		if lost || err != nil || !time.Now().Before(check) {
			check = time.Now().Add(trackerCheck)
			if !t.compare(w) {
				check = time.Now().Add(trackerRetry)
			}
		}
	}
	t.compare(w)
	t.mu.Lock()
	left := t.held
	t.held = nil
	t.mu.Unlock()
	for _, f := range left {
		f.rest(max(f.pool.CoolDown.ClosedHere, timeWait))
	}
}

// destroyed gives back the tuple of a socket that is gone, if it was followed.
func (t *Tracker) destroyed(w *sockdiag.Watcher, cookie uint64) {
	if f, ok := t.drop(cookie); ok {
		_, how, _ := f.look(w, cookie)
		f.end(how)
	}
}

func (t *Tracker) drop(cookie uint64) (followed, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, ok := t.held[cookie]
	if !ok {
		return f, false
	}
	if delete(t.held, cookie); len(t.held) == 0 && t.most > trackerRoom {
		t.held, t.most = nil, 0 // maps do not shrink
	}
	return f, true
}

// look asks the kernel whether a socket exists, and if not, how its connection ended: ClosedHere if in doubt, ClosedByPeer
// if nothing is left of it. As in endingOf, nothing counts as nothing if it was seen twice.
func (f followed) look(w *sockdiag.Watcher, cookie uint64) (exists bool, how tuple.Ending, err error) {
	if !f.real.IsValid() {
		return false, tuple.NeverEstablished, nil
	}
	local, remote := f.real.Src(), f.real.Dst()
	if f.blind {
		for s, err := range w.All(sockdiag.Query{Local: sockdiag.At(local), Remote: sockdiag.At(remote)}) {
			if err != nil || is(s, cookie) {
				return err == nil, tuple.ClosedHere, err
			}
		}
		return false, tuple.ClosedHere, nil
	}
	for range 2 {
		s, found, err := w.Lookup(local, remote)
		if err != nil || found {
			return err == nil && is(s, cookie), tuple.ClosedHere, err
		}
	}
	return false, tuple.ClosedByPeer, nil
}

// is reports whether s is the socket with the cookie, and not what is left of it.
func is(s sockdiag.Socket, cookie uint64) bool { return s.Cookie == cookie && !s.IsLeftOver() }

// compare gives back the tuples of sockets that are gone, of which no message came. It reports whether all that it had to
// ask was answered.
//
// What was followed before the question is in the answer, or gone, or it is a socket that is in no table any more, because
// its connection failed or was reset and it is not closed yet. Only the first kind has a tuple as the kernel sees it, and
// the last two cannot be told apart. A socket that exists may yet be missing, if others in its hash chain went while the
// kernel walked it: so each one that is missing is asked about by itself, and an answer that was interrupted will do.
func (t *Tracker) compare(w *sockdiag.Watcher) bool {
	t.mu.Lock()
	t.round++
	round, empty := t.round, len(t.held) == 0
	t.mu.Unlock()
	if empty {
		return true
	}
	connected := sockdiag.StatesOf(sockdiag.Established, sockdiag.SynSent, sockdiag.SynRecv, sockdiag.FinWait1,
		sockdiag.FinWait2, sockdiag.CloseWait, sockdiag.LastAck, sockdiag.Closing)
	for s, err := range w.All(sockdiag.Query{States: connected}) {
		if err != nil {
			if !errors.Is(err, sockdiag.ErrInterrupted) {
				return false
			}
			break
		}
		if !s.IsLeftOver() {
			t.mark(s.Cookie, round)
		}
	}
	all := true
	for cookie, f := range t.missing(round) {
		exists, how, err := f.look(w, cookie)
		if err != nil {
			all = false
			continue
		}
		if !exists {
			t.drop(cookie)
			f.end(how)
		}
	}
	return all
}

func (t *Tracker) mark(cookie, round uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f, ok := t.held[cookie]; ok {
		f.seen = round
		t.held[cookie] = f
	}
}

// missing returns what was followed before the round and not seen in it.
func (t *Tracker) missing(round uint64) map[uint64]followed {
	t.mu.Lock()
	defer t.mu.Unlock()
	missing := make(map[uint64]followed)
	for cookie, f := range t.held {
		if f.seen != round {
			missing[cookie] = f
		}
	}
	return missing
}
