package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

// A run is one run of the command.
type run struct {
	*exec.Cmd
	stdout, stderr output
}

func start(t *testing.T, args ...string) *run {
	r := &run{Cmd: exec.Command(os.Args[0], append([]string{"beyond"}, args...)...)}
	r.Stdout, r.Stderr = &r.stdout, &r.stderr
	r.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, r.Start())
	t.Cleanup(func() { _ = r.Process.Kill() })
	return r
}

// wait returns the exit status, or -1 after a signal.
func (r *run) wait() int {
	_ = r.Wait()
	return r.ProcessState.ExitCode()
}

// figure returns the figure in the row of the table that has this label.
func (r *run) figure(t *testing.T, label string) string {
	for line := range strings.Lines(r.stdout.String()) {
		if rest, ok := strings.CutPrefix(line, label+" "); ok {
			return strings.Fields(rest)[0]
		}
	}
	require.Fail(t, "no such row", "%q in\n%s\n%s", label, &r.stdout, &r.stderr)
	return ""
}

func send(s syscall.Signal) func(*testing.T, *run) {
	return func(t *testing.T, r *run) { require.NoError(t, r.Process.Signal(s)) }
}

// ctrlC signals the workers too, as a terminal does.
func ctrlC(t *testing.T, r *run) { require.NoError(t, syscall.Kill(-r.Process.Pid, syscall.SIGINT)) }

func killWorker(t *testing.T, _ *run) {
	pids := workers(t)
	require.NotEmpty(t, pids)
	require.NoError(t, syscall.Kill(pids[len(pids)-1], syscall.SIGKILL))
}

// workers returns the other processes in this network namespace, which is the test's own.
func workers(t *testing.T) (pids []int) {
	here, err := os.Readlink("/proc/self/ns/net")
	require.NoError(t, err)
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	require.NoError(t, err)
	for _, link := range links {
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		require.NoError(t, err)
		if there, err := os.Readlink(link); err != nil || there != here || pid == os.Getpid() {
			continue
		}
		if args, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(link)), "cmdline")); err == nil &&
			bytes.Contains(args, []byte("\x00worker\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// nothingIsLeft requires that no worker is left, and no socket except listeners of the test. It waits, because a killed
// process loses its command line before the kernel has closed its files. It does not wait long enough for TIME_WAIT.
func nothingIsLeft(t *testing.T) {
	require.Empty(t, workers(t))
	var left []sockdiag.Socket
	require.Eventually(t, func() bool {
		left = nil
		for s, err := range (sockdiag.Query{}).All() {
			if err != nil || s.State != sockdiag.Listen || s.Local.Port() != 80 {
				left = append(left, s)
			}
		}
		return len(left) == 0
	}, 30*time.Second, 10*time.Millisecond, "%v", &left)
}

// output is what a process has written so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) await(t *testing.T, text string) {
	require.Eventually(t, func() bool { return strings.Contains(o.String(), text) },
		time.Minute, time.Millisecond, "no %q in %s", text, o)
}

// silent is a listener that sends nothing and holds what it accepts.
type silent struct {
	net.Listener
	mu    sync.Mutex
	bytes int
	wg    sync.WaitGroup
}

func accept(t *testing.T, address string) *silent {
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	s := &silent{Listener: l}
	t.Cleanup(func() { l.Close() })
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() {
				defer conn.Close()
				n, _ := conn.Read(make([]byte, 1))
				s.mu.Lock()
				s.bytes += n
				s.mu.Unlock()
			})
		}
	})
	return s
}

// received closes the listener, waits for its connections to end and returns how many bytes they received.
func (s *silent) received() int {
	s.Close()
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}
