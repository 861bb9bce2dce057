package netns

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reportFD is where the child finds the pipe that tells the parent how the test
// ended: an exit code cannot tell a pass from a skip, or from no test at all.
const reportFD = 3

// Isolate runs the calling test, or subtest, in a private network namespace and
// reports whether the caller is inside. Its contract is one line of the caller,
// and the first: `if !netns.Isolate(t) { return }`.
//
// Outside, it runs the test binary once more, for this test only, waits for it,
// and returns false; the test has then failed if the child failed, been
// skipped if the child skipped (Isolate does not return then), and passed if it
// passed. The child's output is logged if it failed, and with -test.v. What a
// test does before Isolate is done by the child as well: for a subtest, that
// includes what the tests around it do.
//
// Inside, it returns true once the loopback interface is up and the sysctls, in
// the form "net.ipv4.tcp_tw_reuse=0", are set. They must be sysctls of the network
// namespace. The user is root of the namespace and no one outside it. A second
// Isolate inside, by a subtest, stays in the same namespace and only sets its
// sysctls there. The child is killed if the parent dies, and its timeout ends a
// little before the parent's.
//
// Where the system refuses a namespace or a sysctl, and anywhere but on Linux, the
// test is skipped with what was refused (namespaces(7), user_namespaces(7)). A
// sysctl with a bad name or value is a mistake in the test, and fails it.
func Isolate(t *testing.T, sysctls ...string) (inside bool) {
	t.Helper()
	for _, s := range sysctls {
		setting(t, s)
	}
	if os.Getenv(variable) == "" {
		outside(t)
		return false
	}
	if os.Getenv(variable) == t.Name() {
		reportAtEnd(t)
	}
	if err := Up(); err != nil {
		t.Skipf("netns: the loopback interface of the private network cannot be brought up: %v", err)
	}
	for _, s := range sysctls {
		setSysctl(t, s)
	}
	return true
}

// outside runs the child and gives t its result.
func outside(t *testing.T) {
	t.Helper()
	output, report, err := runChild(t)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		t.Errorf("netns: the test failed in its private network (%v):\n%s", exit, quote(output))
	case refused(err):
		t.Skipf("netns: the system refuses a private network namespace, or the user namespace it takes without privilege: %v", err)
	case err != nil:
		t.Errorf("netns: the test could not be run in a private network: %v\n%s", err, quote(output))
	case report == "skip":
		t.Skip(reason(output))
	case report != "pass":
		t.Errorf("netns: the process of the private network ended without a result of %s; does the test call Isolate first?\n%s",
			t.Name(), quote(output))
	case testing.Verbose():
		t.Logf("in a private network:\n%s", quote(output))
	}
}

// refused reports whether a process was not to be had with its namespaces: for
// want of permission, because of a limit, or in a kernel built without them.
func refused(err error) bool {
	for _, e := range []error{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// runChild runs the test in a network namespace: as root in a user namespace
// only if it takes one, otherwise always.
func runChild(t *testing.T) (output, report string, err error) {
	t.Helper()
	attr := Private()
	output, report, err = startChild(t, attr)
	if refused(err) && attr.Cloneflags&unix.CLONE_NEWUSER == 0 {
		return startChild(t, withUser())
	}
	return output, report, err
}

func startChild(t *testing.T, attr *syscall.SysProcAttr) (output, report string, err error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		return "", "", err
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return "", "", err
	}
	defer func() { _ = ours.Close() }()

	deadline, ok := t.Deadline()
	cmd := exec.CommandContext(t.Context(), self, arguments(t.Name(), deadline, ok)...)
	// Under -race a process sleeps for a second as it exits, which each isolated test
	// would pay for; races are reported as the test that has them ends. The caller's
	// own options come last and win.
	race := "GORACE=atexit_sleep_ms=0 " + os.Getenv("GORACE")
	cmd.Env = append(os.Environ(), race, variable+"="+t.Name())
	cmd.ExtraFiles = []*os.File{theirs}
	var buffer bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buffer, &buffer
	cmd.WaitDelay = time.Second // for what the child left running with its output open

	// The signal comes when the thread dies that started the child, not the process:
	// it must stay.
	attr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr = attr
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		return "", "", err
	}
	err = cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	_ = ours.SetReadDeadline(time.Now().Add(time.Second)) // it may be open in a grandchild
	said, _ := io.ReadAll(ours)
	return buffer.String(), string(said), err
}

// reportAtEnd tells the parent how the test ended. It is the first cleanup
// registered and thus the last to run. The name leaves the environment, so that
// the report is made once and by this process.
func reportAtEnd(t *testing.T) {
	t.Helper()
	if err := os.Setenv(variable, "inside"); err != nil {
		t.Fatalf("netns: %v", err)
	}
	pipe := os.NewFile(reportFD, "report")
	unix.CloseOnExec(reportFD)
	t.Cleanup(func() {
		result := "pass"
		switch {
		case t.Failed():
			result = "fail"
		case t.Skipped():
			result = "skip"
		}
		if _, err := io.WriteString(pipe, result); err != nil {
			t.Errorf("netns: the result cannot be told to the process that asked: %v", err)
		}
		_ = pipe.Close()
	})
}

// setSysctl sets one sysctl of the namespace of the calling thread.
func setSysctl(t testing.TB, sysctl string) {
	t.Helper()
	path, value := setting(t, sysctl)
	err := os.WriteFile(path, []byte(value), 0)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		t.Skipf("netns: this kernel has no sysctl for %q in a private network: %v", sysctl, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		t.Skipf("netns: the system refuses the sysctl %q: %v", sysctl, err)
	default:
		t.Fatalf("netns: the sysctl %q does not take this value: %v", sysctl, err)
	}
}
