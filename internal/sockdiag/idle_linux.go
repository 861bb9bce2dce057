package sockdiag

import (
	"runtime"
	"sync"
	"time"
)

const (
	// idlePerNamespace and idleInAll are how many netlink sockets are kept open for later look-ups.
	idlePerNamespace = 2
	idleInAll        = 8

	// idleFor is how long one is kept without use.
	idleFor = 10 * time.Second
)

// idle is the netlink sockets that wait for the next look-up.
var idle idleConns

// idleConns keeps netlink sockets by their network namespace. A netlink socket answers for the namespace of the thread
// that made it, whichever thread uses it, so it serves only callers that name this namespace.
type idleConns struct {
	mu     sync.Mutex
	conns  []idleConn // the one used last comes last
	sweeps bool       // the next garbage collection calls sweep
}

type idleConn struct {
	*conn
	since time.Time
}

// take returns an idle netlink socket of the namespace, nil if there is none.
func (i *idleConns) take(namespace uint64) *conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n := len(i.conns) - 1; n >= 0; n-- {
		if c := i.conns[n].conn; c.namespace == namespace {
			i.remove(n)
			return c
		}
	}
	return nil
}

// put keeps c for later, or closes it. At most one of the others has to make way for it.
func (i *idleConns) put(c *conn) {
	now := time.Now()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closeUntil(now.Add(-idleFor))
	same := 0
	for _, other := range i.conns {
		if other.namespace == c.namespace {
			same++
		}
	}
	if same >= idlePerNamespace {
		c.close()
		return
	}
	if len(i.conns) >= idleInAll {
		i.conns[0].close()
		i.remove(0)
	}
	i.conns = append(i.conns, idleConn{c, now})
	i.sweepLater()
}

// sweepLater has the next garbage collection call sweep. It needs no goroutine and no timer, and a process that does
// nothing still collects every two minutes. i.mu is held.
func (i *idleConns) sweepLater() {
	if i.sweeps || len(i.conns) == 0 {
		return
	}
	i.sweeps = true
	garbage := new(struct{ _ *byte }) // with a pointer: the runtime packs small objects without one together
	runtime.AddCleanup(garbage, func(i *idleConns) { i.sweep(time.Now().Add(-idleFor)) }, i)
}

// sweep closes what has been idle since the time or longer.
func (i *idleConns) sweep(since time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.sweeps = false
	i.closeUntil(since)
	i.sweepLater()
}

func (i *idleConns) closeUntil(since time.Time) {
	for len(i.conns) > 0 && !i.conns[0].since.After(since) {
		i.conns[0].close()
		i.remove(0)
	}
}

func (i *idleConns) remove(n int) {
	last := len(i.conns) - 1
	copy(i.conns[n:], i.conns[n+1:])
	i.conns[last] = idleConn{}
	i.conns = i.conns[:last]
}

// CloseIdle closes the netlink sockets that are kept for later look-ups.
func CloseIdle() {
	idle.mu.Lock()
	defer idle.mu.Unlock()
	idle.closeUntil(time.Now())
}

// find asks for one socket, on an idle netlink socket if there is one. The answer may be less than exact.
func find(x Exact) (s Socket, found bool, err error) {
	c := (*conn)(nil)
	if x.Namespace != 0 {
		c = idle.take(x.Namespace)
	}
	if c == nil {
		if c, err = open(lookupBuffer); err != nil {
			return Socket{}, false, err
		}
		if x.Namespace != 0 {
			if c.namespace = c.cookie(); c.namespace != x.Namespace {
				c.close()
				return Socket{}, false, ErrElsewhere
			}
		}
	}
	s, found, err = c.find(x)
	if err != nil || x.Namespace == 0 {
		c.close() // an answer may still be on its way
		return s, found, err
	}
	idle.put(c)
	return s, found, nil
}
