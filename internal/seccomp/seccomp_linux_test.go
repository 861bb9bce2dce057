package seccomp_test

import (
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/seccomp"
)

// The kernel refuses a call only if all conditions hold.
func TestAnswerLooksAtTheArguments(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	seccomp.Answer(t, unix.SYS_SOCKET, unix.EMLINK,
		seccomp.Where{Arg: 0, Values: []uint32{unix.AF_UNIX, unix.AF_NETLINK}},
		seccomp.Where{Arg: 1, Values: []uint32{unix.SOCK_DGRAM}})
	for _, c := range []struct {
		family, kind int
		want         error
	}{
		{unix.AF_UNIX, unix.SOCK_DGRAM, unix.EMLINK},
		{unix.AF_NETLINK, unix.SOCK_DGRAM, unix.EMLINK},
		{unix.AF_UNIX, unix.SOCK_STREAM, nil},
		{unix.AF_INET, unix.SOCK_DGRAM, nil},
	} {
		fd, err := unix.Socket(c.family, c.kind, 0)
		require.ErrorIs(t, err, c.want)
		unix.Close(fd)
	}
}

// A call that gets the answer 0 does nothing.
func TestAnswerOfZeroDoesNothing(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	seccomp.Answer(t, unix.SYS_SETSOCKOPT, 0)
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	set, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
	require.NoError(t, err)
	require.Zero(t, set)
}

// The filter of one thread does not affect the others.
func TestAnswerThreadIsForOneThread(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	var all sync.WaitGroup
	all.Go(func() {
		runtime.LockOSThread() // for good
		seccomp.AnswerThread(t, unix.SYS_GETPRIORITY, unix.EMLINK)
		_, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		require.ErrorIs(t, err, unix.EMLINK)
	})
	all.Wait()
	_, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	require.NoError(t, err)
}
