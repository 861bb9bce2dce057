package dialer

import (
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/sockopt"
)

// settings is what the kernel of one network namespace says of ports and of TIME_WAIT. It does not change once it is
// read.
type settings struct {
	kernels  alloc.Set // the ports that the kernel chooses among, if portsErr is nil
	reserved alloc.Set // ip_local_reserved_ports
	portsErr error

	ranged    bool   // the kernel honours IP_LOCAL_PORT_RANGE
	names     bool   // getsockname(2) is allowed: without, package net takes each choice of the kernel's for a bad one
	diagnoses bool   // the kernel can be asked for single TCP sockets (sock_diag)
	namespace uint64 // 0 if the kernel does not tell: before Linux 5.14

	timeWaitReuse int           // tcp_tw_reuse: 0 never, 1 always, 2 on loopback
	reuseDelay    time.Duration // how long after TIME_WAIT began

	read time.Time
}

const (
	// settingsAge is how old settings become before a dial reads them again. The kernel looks at its own at each
	// connect; reading them takes 40 µs.
	settingsAge = time.Second

	// failedAge is that of settings that this process is not shown.
	failedAge = 50 * time.Millisecond

	// timeWait is how long Linux keeps a tuple that this side closed first (TCP_TIMEWAIT_LEN in include/net/tcp.h).
	timeWait = 60 * time.Second

	// reuseDelay is the default of tcp_tw_reuse_delay, and what kernels without that sysctl do.
	reuseDelay = time.Second
)

// exact and kernelHas are seams for tests: another system, and an older kernel.
var (
	exact     = sockopt.Supported
	kernelHas = sockopt.Kernel
)

// current holds the settings of the namespace that was dialled in last. Few programs dial in several; there an
// attempt finds out by the port that came out, or in the bind lane by the namespace of its socket.
var current struct {
	atomic.Pointer[settings]
	reading sync.Mutex
	ignores atomic.Uint64 // the namespace in which IP_LOCAL_PORT_RANGE turned out to be ignored, plus 1
}

// currentSettings returns the settings, read again if they are old. One dial reads them; those that come meanwhile go
// on with the old ones.
func currentSettings() *settings {
	s := current.Load()
	if s == nil {
		return readSettings(s)
	}
	age := settingsAge
	switch {
	case errors.Is(s.portsErr, fs.ErrNotExist), errors.Is(s.portsErr, fs.ErrPermission):
		age = failedAge
	case s.portsErr != nil: // no descriptor was left, for instance
		age = 0
	}
	if time.Since(s.read) <= age || !current.reading.TryLock() {
		return s
	}
	current.reading.Unlock()
	return readSettings(s)
}

// readSettings reads the settings of the calling thread's namespace, unless another call has done so since it had
// seen old.
func readSettings(old *settings) *settings {
	current.reading.Lock()
	defer current.reading.Unlock()
	if s := current.Load(); s != old && s != nil {
		return s
	}
	s := lookAtSettings()
	if s.portsErr != nil && old != nil && old.portsErr == nil {
		kept := *old
		s = &kept
	}
	s.read = time.Now()
	if s.namespace+1 == current.ignores.Load() {
		s.ranged = false
	}
	current.Store(s)
	return s
}

// ignoresRange notes that the kernel accepted IP_LOCAL_PORT_RANGE and chose another port.
func (s *settings) ignoresRange() *settings {
	current.ignores.Store(s.namespace + 1)
	return readSettings(s)
}

// timeWaitOf returns how long the kernel keeps a connection that this side closed first from a new one with the same
// tuple (tcp_twsk_unique in net/ipv4/tcp_ipv4.c): on loopback, which is an end there or a socket that is bound to lo,
// or elsewhere. Both ends must have sent timestamps for it to be less than TIME_WAIT.
func (s *settings) timeWaitOf(loopback, timestamps bool) time.Duration {
	reuses := s.timeWaitReuse == 1 || s.timeWaitReuse == 2 && loopback
	if reuses && timestamps {
		return s.reuseDelay
	}
	return timeWait
}
