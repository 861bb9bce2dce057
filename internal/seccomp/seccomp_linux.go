package seccomp

import (
	"encoding/binary"
	"os"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where is a condition on an argument of a system call: its lower 32 bits must be one of Values.
type Where struct {
	Arg    int // 0 is the first one
	Values []uint32
}

// Answer makes the kernel answer a system call with errno, and do nothing, if all conditions hold. If errno is 0, the
// call seems to succeed. The filter applies to all threads of the process until it ends, and to its children. So a test
// must call Answer inside netns.Isolate, in a process of its own.
//
// Answer skips the test if the system allows no filters.
func Answer(t testing.TB, call uintptr, errno unix.Errno, conditions ...Where) {
	t.Helper()
	install(t, filter(call, errno, conditions), allThreads)
}

// AnswerThread is Answer for the calling thread only. The caller must lock its goroutine to the thread and never unlock
// it, so that the thread ends with the goroutine.
func AnswerThread(t testing.TB, call uintptr, errno unix.Errno, conditions ...Where) {
	t.Helper()
	install(t, filter(call, errno, conditions), 0)
}

func install(t testing.TB, program []unix.SockFilter, flags uintptr) {
	t.Helper()
	if slices.Contains([]string{"386", "s390x"}, runtime.GOARCH) || binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skipf("seccomp: the filters do not support %s", runtime.GOARCH)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	if err == nil {
		f := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
		if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, setFilter, flags, uintptr(unsafe.Pointer(&f))); errno != 0 {
			err = os.NewSyscallError("seccomp", errno)
		}
	}
	if err != nil {
		t.Skipf("seccomp: the system refuses a filter: %v", err)
	}
}

// The constants of include/uapi/linux/seccomp.h.
const (
	setFilter    = 1          // SECCOMP_SET_MODE_FILTER
	allThreads   = 1          // SECCOMP_FILTER_FLAG_TSYNC
	returnErrno  = 0x00050000 // SECCOMP_RET_ERRNO, with the number below
	returnAllow  = 0x7fff0000 // SECCOMP_RET_ALLOW
	atNumber     = 0          // in struct seccomp_data
	atArguments  = 16
	argumentSize = 8
)

// filter returns the program that the kernel runs for each system call. If a condition does not hold, the program jumps
// to its last instruction, which allows the call.
func filter(call uintptr, errno unix.Errno, conditions []Where) []unix.SockFilter {
	load := func(offset int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(offset)}
	}
	jump := func(k uint32, ifEqual, ifNot int) unix.SockFilter {
		return unix.SockFilter{
			Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
			K:    k, Jt: uint8(ifEqual), Jf: uint8(ifNot),
		}
	}
	result := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }

	rest := 1 // how many instructions lie between here and the last one
	program := []unix.SockFilter{result(returnErrno | uint32(errno)), result(returnAllow)}
	for _, c := range slices.Backward(conditions) {
		condition := []unix.SockFilter{load(atArguments + argumentSize*c.Arg)}
		for i, v := range c.Values {
			left := len(c.Values) - 1 - i
			otherwise := 0
			if left == 0 {
				otherwise = rest
			}
			condition = append(condition, jump(v, left, otherwise))
		}
		program = append(condition, program...)
		rest += len(condition)
	}
	return append([]unix.SockFilter{load(atNumber), jump(uint32(call), 0, rest)}, program...)
}
