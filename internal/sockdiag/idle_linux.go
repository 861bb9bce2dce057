package sockdiag

import (
	"runtime"
	"sync"
	"time"
)

const (
	// idlePerNamespace and idleInAll are how many netlink sockets stay open for later look-ups.
	idlePerNamespace = 2
	idleInAll        = 8

	// idleFor is how long an unused one stays open.
	idleFor = 10 * time.Second
)

// idle has the netlink sockets for the next look-ups.
var idle idleConns

// idleConns keeps netlink sockets by their network namespace. A netlink socket answers for the namespace of the thread
// that made it, even if another thread uses it. So it serves only callers that name this namespace.
type idleConns struct {
	mu     sync.Mutex
	conns  []idleConn // the most recently used one is the last
	sweeps bool       // the next garbage collection calls sweep
}

type idleConn struct {
	*conn
	since time.Time
}

// take returns an idle netlink socket of the namespace, or nil if there is none.
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

// put keeps c for later look-ups, or closes it. If there are idleInAll others, it closes the oldest one.
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

// sweepLater makes the next garbage collection call sweep. That needs no goroutine and no timer, and the runtime
// collects at least every two minutes, even in an idle process. The caller holds i.mu.
func (i *idleConns) sweepLater() {
	if i.sweeps || len(i.conns) == 0 {
		return
	}
	i.sweeps = true
	garbage := new(struct{ _ *byte }) // with a pointer, because the runtime packs small objects without one together
	runtime.AddCleanup(garbage, func(i *idleConns) { i.sweep(time.Now().Add(-idleFor)) }, i)
}

// sweep closes the sockets that nobody has used since the given time.
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

// CloseIdle closes the netlink sockets that Lookup keeps open. Any goroutine may call it at any time.
func CloseIdle() {
	idle.mu.Lock()
	defer idle.mu.Unlock()
	idle.closeUntil(time.Now())
}

// find is a finder that uses an idle netlink socket if there is one.
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
