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

// reportFD is the descriptor of the pipe on which the child reports the result of the test. An exit code cannot tell a
// pass from a skip, or from no test at all.
const reportFD = 3

// Isolate runs the calling test or subtest in a private network namespace, and reports whether the caller is inside. A
// test must begin with `if !netns.Isolate(t) { return }`.
//
// Outside, Isolate runs the test binary again, for this test only. It waits for this child, gives the test the same
// result, and returns false. It does not return if the child skipped the test. It logs the output of the child if the
// child failed, and with -test.v. The child also does what the test does before Isolate, and a subtest what the tests
// around it do.
//
// Inside, Isolate brings up the loopback interface, sets the sysctls, and returns true. A sysctl has the form
// "net.ipv4.tcp_tw_reuse=0", and must belong to the network namespace. The process is root inside the namespace only. A
// second Isolate inside, such as that of a subtest, stays in the same namespace and sets its sysctls there. The child
// is killed if the parent dies. Its timeout ends a little before that of the parent.
//
// Isolate skips the test if the system refuses a namespace or a sysctl (namespaces(7), user_namespaces(7)), and on any
// system except Linux. It fails the test if a sysctl has an invalid name or value.
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

// outside runs the child and gives t the same result.
func outside(t *testing.T) {
	t.Helper()
	output, report, err := runChild(t)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		t.Errorf("netns: the test failed in its private network (%v):\n%s", exit, quote(output))
	case refused(err):
		t.Skipf("netns: the system refuses a private network namespace, "+
			"or the user namespace that it needs without privilege: %v", err)
	case err != nil:
		t.Errorf("netns: cannot run the test in a private network: %v\n%s", err, quote(output))
	case report == "skip":
		t.Skip(reason(output))
	case report != "pass":
		t.Errorf("netns: the process in the private network ended without a result; does %s call Isolate first?\n%s",
			t.Name(), quote(output))
	case testing.Verbose():
		t.Logf("in a private network:\n%s", quote(output))
	}
}

// refused reports whether the system refused the namespaces of a process: without permission, because of a limit, or in
// a kernel without namespaces.
func refused(err error) bool {
	for _, e := range []error{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// runChild runs the test in a new network namespace. It makes a user namespace too, unless the user is root and root
// may make a network namespace without one.
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
	// Under -race a process sleeps for a second when it exits, which each isolated test would have to wait for. It
	// reports races when the test with the race ends, so the sleep is not needed. The caller's own options come last,
	// so they win.
	race := "GORACE=atexit_sleep_ms=0 " + os.Getenv("GORACE")
	cmd.Env = append(os.Environ(), race, variable+"="+t.Name())
	cmd.ExtraFiles = []*os.File{theirs}
	var buffer bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buffer, &buffer
	cmd.WaitDelay = time.Second // if a process that the child started still has the output open

	// The kernel sends the signal when the thread that started the child ends, not when the process ends. So lock it.
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
	_ = ours.SetReadDeadline(time.Now().Add(time.Second)) // a grandchild may have the other end open
	said, _ := io.ReadAll(ours)
	return buffer.String(), string(said), err
}

// reportAtEnd reports the result of the test to the parent. It registers the first cleanup, which is the last to run.
// It takes the name of the test out of the environment, so that only this process reports, and only once.
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
			t.Errorf("netns: cannot report the result to the parent process: %v", err)
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
		t.Skipf("netns: a private network of this kernel does not have the sysctl %q: %v", sysctl, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		t.Skipf("netns: the system refuses the sysctl %q: %v", sysctl, err)
	default:
		t.Fatalf("netns: the sysctl does not accept this value: %q: %v", sysctl, err)
	}
}
