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

// settings is what the kernel of one network namespace says about ports and TIME_WAIT. It does not change after it is
// read.
type settings struct {
	kernels  alloc.Set // the ports from which the kernel chooses, if portsErr is nil
	reserved alloc.Set // ip_local_reserved_ports
	portsErr error

	ranged    bool   // the kernel honours IP_LOCAL_PORT_RANGE
	names     bool   // getsockname(2) works: without it, package net takes each port of the kernel for a bad one
	diagnoses bool   // sock_diag finds single TCP sockets
	namespace uint64 // 0 if the kernel does not tell: before Linux 5.14

	timeWaitReuse int           // tcp_tw_reuse: 0 never, 1 always, 2 on loopback
	reuseDelay    time.Duration // how long after the begin of TIME_WAIT

	read time.Time
}

const (
	// settingsAge is the age at which a dial reads the settings again. The kernel uses its own at each connect. Reading
	// them takes 40 µs.
	settingsAge = time.Second

	// failedAge is the same for settings that this process may not read.
	failedAge = 50 * time.Millisecond

	// timeWait is how long Linux keeps a tuple after an active close (TCP_TIMEWAIT_LEN in include/net/tcp.h).
	timeWait = 60 * time.Second

	// reuseDelay is the default of tcp_tw_reuse_delay, and the delay of kernels without that sysctl.
	reuseDelay = time.Second
)

// exact and kernelHas are seams for tests: another system, and an older kernel.
var (
	// Tests replace exact and kernelHas, for another system and an older kernel.
	exact     = sockopt.Supported
	kernelHas = sockopt.Kernel
)

// current holds the settings of the namespace in which the last dial was. Few programs dial in several. There an
// attempt notices by the port that came out or, in the bind lane, by the namespace of its socket.
var current struct {
	atomic.Pointer[settings]
	reading sync.Mutex
	ignores atomic.Uint64 // the namespace in which IP_LOCAL_PORT_RANGE turned out to be ignored, plus 1
}

// currentSettings returns the settings, and reads them again if they are old. Only one dial at a time reads them. The
// others use the old ones meanwhile.
func currentSettings() *settings {
	s := current.Load()
	if s == nil {
		return readSettings(s)
	}
	age := settingsAge
	switch {
	case errors.Is(s.portsErr, fs.ErrNotExist), errors.Is(s.portsErr, fs.ErrPermission):
		age = failedAge
	case s.portsErr != nil: // for example no descriptor was left
		age = 0
	}
	if time.Since(s.read) <= age || !current.reading.TryLock() {
		return s
	}
	current.reading.Unlock()
	return readSettings(s)
}

// readSettings reads the settings of the calling thread's namespace, unless another call has replaced old already.
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

// ignoresRange records that the kernel accepted IP_LOCAL_PORT_RANGE but chose another port.
func (s *settings) ignoresRange() *settings {
	current.ignores.Store(s.namespace + 1)
	return readSettings(s)
}

// timeWaitOf returns how long after an active close the kernel refuses the tuple to a new connection (tcp_twsk_unique
// in net/ipv4/tcp_ipv4.c). loopback means that an end is a loopback address or that the socket is bound to lo.
// timestamps means that both ends sent them: without them it is always TIME_WAIT.
func (s *settings) timeWaitOf(loopback, timestamps bool) time.Duration {
	reuses := s.timeWaitReuse == 1 || s.timeWaitReuse == 2 && loopback
	if reuses && timestamps {
		return s.reuseDelay
	}
	return timeWait
}
