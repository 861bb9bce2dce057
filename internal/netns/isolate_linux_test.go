package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// subject is the environment variable that lets a TestSubject run. behaviour sets it, to check the result of the test
// from outside.
const subject = "EPHEMERA_NETNS_SUBJECT"

// behaviour runs a TestSubject in a new test process, and returns the output of `go test -v`.
func behaviour(t *testing.T, name string, flags ...string) (output string, passed bool) {
	t.Helper()
	if os.Getenv(variable) != "" {
		t.Fatal("call behaviour from outside only")
	}
	b, err := subjectCommand(t, name, flags...).CombinedOutput()
	if strings.Contains(string(b), "the system refuses") {
		t.Skip("no private networks here:", string(b))
	}
	return string(b), err == nil
}

func subjectCommand(t *testing.T, name string, flags ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, append([]string{
		"-test.run=^" + name + "$", "-test.v=true", "-test.timeout=1m",
	}, flags...)...)
	// As in startChild, without the sleep of a second under -race.
	cmd.Env = append(os.Environ(), subject+"="+name, "GORACE=atexit_sleep_ms=0")
	return cmd
}

func onlyAsSubject(t *testing.T) {
	t.Helper()
	if os.Getenv(subject) != t.Name() {
		t.Skip("run by another test")
	}
}

const portRange = "/proc/sys/net/ipv4/ip_local_port_range"

// A sysctl changes inside, and does not change on the host.
func TestSysctlIsPrivate(t *testing.T) {
	before, err := os.ReadFile(portRange)
	require.NoError(t, err)
	if !Isolate(t, "net.ipv4.ip_local_port_range=40000 40003", "net.ipv4.tcp_tw_reuse=0") {
		after, err := os.ReadFile(portRange)
		require.NoError(t, err)
		require.Equal(t, before, after)
		return
	}
	after, err := os.ReadFile(portRange)
	require.NoError(t, err)
	require.Equal(t, "40000\t40003\n", string(after))

	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	require.Contains(t, []int{40000, 40001, 40002, 40003}, l.Addr().(*net.TCPAddr).Port)
	c, err := net.Dial("tcp4", l.Addr().String())
	require.NoError(t, err, "lo is up")
	require.NoError(t, c.Close())
}

// A port that is in use outside is free inside.
func TestPortsArePrivate(t *testing.T) {
	const address = "EPHEMERA_NETNS_ADDRESS"
	if os.Getenv(address) == "" {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { _ = l.Close() }()
		t.Setenv(address, l.Addr().String())
	}
	if !Isolate(t) {
		return
	}
	l, err := net.Listen("tcp4", os.Getenv(address))
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

// A subtest with any name can be isolated. A subtest within it stays in the same network.
func TestSubtests(t *testing.T) {
	for _, name := range []string{"a.b", "a b+(c)", "a.b"} {
		t.Run(name, func(t *testing.T) {
			if !Isolate(t, "net.ipv4.ip_local_port_range=50000 50001") {
				return
			}
			t.Run("within", func(t *testing.T) {
				require.True(t, Isolate(t, "net.ipv4.ip_local_port_range=50002 50003"))
				b, err := os.ReadFile(portRange)
				require.NoError(t, err)
				require.Equal(t, "50002\t50003\n", string(b))
			})
		})
	}
}

// Isolated tests can run in parallel, each in its own network.
func TestParallel(t *testing.T) {
	for i := range 3 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			if !Isolate(t) {
				return
			}
			l, err := net.Listen("tcp4", "127.0.0.1:777")
			require.NoError(t, err, "inside, the user is root and the port is free")
			require.NoError(t, l.Close())
		})
	}
}

// The child gets -short, and has an earlier deadline than the parent.
func TestFlagsReachTheChild(t *testing.T) {
	const short = "EPHEMERA_NETNS_SHORT"
	if os.Getenv(variable) == "" {
		t.Setenv(short, fmt.Sprint(testing.Short()))
		if d, ok := t.Deadline(); ok {
			t.Setenv(short+"_DEADLINE", d.Format(time.RFC3339Nano))
		}
	}
	if !Isolate(t) {
		return
	}
	require.Equal(t, os.Getenv(short), fmt.Sprint(testing.Short()))
	if s := os.Getenv(short + "_DEADLINE"); s != "" {
		parents, err := time.Parse(time.RFC3339Nano, s)
		require.NoError(t, err)
		d, ok := t.Deadline()
		require.True(t, ok)
		require.True(t, d.Before(parents), "%v, the parent's %v", d, parents)
	}
}

// The child of a parent with -short has it too.
func TestShortReachesTheChild(t *testing.T) {
	output, passed := behaviour(t, "TestFlagsReachTheChild", "-test.short")
	require.True(t, passed, output)
}

// Every address of an IPv4 prefix on lo is local. Of an IPv6 prefix, only the one address is.
func TestAddAddr(t *testing.T) {
	t.Run("IPv4", func(t *testing.T) {
		if !Isolate(t) {
			return
		}
		_, err := net.Listen("tcp4", "198.51.100.1:0")
		require.Error(t, err)
		AddAddr(t, netip.MustParsePrefix("198.51.100.1/24"))
		l, err := net.Listen("tcp4", "198.51.100.77:0")
		require.NoError(t, err)
		defer func() { _ = l.Close() }()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1)}}
		c, err := d.Dial("tcp4", l.Addr().String())
		require.NoError(t, err)
		require.NoError(t, c.Close())
	})
	t.Run("IPv6", func(t *testing.T) {
		if !Isolate(t) {
			return
		}
		AddAddr(t, netip.MustParsePrefix("2001:db8::1/64"))
		l, err := net.Listen("tcp6", "[2001:db8::1]:0")
		require.NoError(t, err)
		defer func() { _ = l.Close() }()
		c, err := net.Dial("tcp6", l.Addr().String())
		require.NoError(t, err)
		require.NoError(t, c.Close())
	})
}

func TestSubjectFails(t *testing.T) {
	onlyAsSubject(t)
	if !Isolate(t) {
		return
	}
	t.Error("what went wrong inside")
}

func TestSubjectPanics(t *testing.T) {
	onlyAsSubject(t)
	if !Isolate(t) {
		return
	}
	panic("out of order")
}

func TestSubjectExits(t *testing.T) {
	onlyAsSubject(t)
	if !Isolate(t) {
		return
	}
	os.Exit(3)
}

// A child that fails in any way fails the test, and the test shows its output.
func TestFailureIsCarried(t *testing.T) {
	for name, said := range map[string]string{
		"TestSubjectFails":  "what went wrong inside",
		"TestSubjectPanics": "panic: out of order",
		"TestSubjectExits":  "exit status 3",
	} {
		output, passed := behaviour(t, name)
		require.False(t, passed, output)
		require.Contains(t, output, "--- FAIL: "+name)
		require.Contains(t, output, said)
	}
}

func TestSubjectSkips(t *testing.T) {
	onlyAsSubject(t)
	if !Isolate(t) {
		t.Error("Isolate returns to no test that is skipped")
		return
	}
	t.Skip("no reason to go on")
}

func TestSubjectHasNoSuchSysctl(t *testing.T) {
	onlyAsSubject(t)
	if !Isolate(t, "net.ipv4.no_such_sysctl=1") {
		t.Error("Isolate returns to no test that is skipped")
	}
	t.Error("inside")
}

// A child that skips makes the test skip with the same reason.
func TestSkipIsCarried(t *testing.T) {
	for name, said := range map[string]string{
		"TestSubjectSkips":           "no reason to go on",
		"TestSubjectHasNoSuchSysctl": "no_such_sysctl",
	} {
		output, passed := behaviour(t, name)
		require.True(t, passed, output)
		require.Contains(t, output, "--- SKIP: "+name)
		require.Contains(t, output, said)
	}
}

func TestSubjectHasABadValue(t *testing.T) {
	onlyAsSubject(t)
	if Isolate(t, "net.ipv4.ip_local_port_range=2 1") {
		t.Error("inside")
	}
}

// A value that the kernel rejects fails the test. It does not skip it.
func TestBadSysctlValueFails(t *testing.T) {
	output, passed := behaviour(t, "TestSubjectHasABadValue")
	require.False(t, passed, output)
	require.Contains(t, output, "does not accept this value")
}

func TestSubjectIsNotReached(t *testing.T) {
	onlyAsSubject(t)
	if os.Getenv(variable) != "" {
		return // passes, without having been isolated
	}
	Isolate(t)
}

// A child that passes, but whose test was never inside, fails the test.
func TestNoResultIsAFailure(t *testing.T) {
	output, passed := behaviour(t, "TestSubjectIsNotReached")
	require.False(t, passed, output)
	require.Contains(t, output, "without a result")
}

func TestSubjectHangs(t *testing.T) {
	onlyAsSubject(t)
	if !Isolate(t) {
		return
	}
	if path := os.Getenv(pidFile); path != "" {
		require.NoError(t, os.WriteFile(path+"~", []byte(fmt.Sprint(os.Getpid())), 0o600))
		require.NoError(t, os.Rename(path+"~", path))
	}
	select {}
}

const pidFile = "EPHEMERA_NETNS_PID"

// A child does not outlive its parent, even if the parent is killed.
func TestChildDiesWithParent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	cmd := subjectCommand(t, "TestSubjectHangs", "-test.timeout=20s")
	cmd.Env = append(cmd.Env, pidFile+"="+path)
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	for {
		if _, err := os.Stat(path); err == nil {
			break
		}
		select {
		case <-ended:
			t.Skip("no private networks here")
		case <-time.After(time.Millisecond):
		}
	}
	pid, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Kill())
	<-ended
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile("/proc/" + string(pid) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ") // gone, or waiting for init
	}, 10*time.Second, time.Millisecond)
}

// A test that calls Isolate twice reports once, and the processes that it starts are inside.
func TestIsolateTwice(t *testing.T) {
	if !Isolate(t) {
		return
	}
	require.True(t, Isolate(t))
	require.Equal(t, "inside", os.Getenv(variable))
}

// A child that hangs times out before its parent, and shows where it hangs.
func TestHangIsCutShort(t *testing.T) {
	output, passed := behaviour(t, "TestSubjectHangs", "-test.timeout=4s")
	require.False(t, passed, output)
	require.Contains(t, output, "--- FAIL: TestSubjectHangs")
	require.Contains(t, output, "test timed out after 2")
}

func TestSubjectAddsOutside(t *testing.T) {
	onlyAsSubject(t)
	AddAddr(t, netip.MustParsePrefix("198.51.100.1/32"))
}

// AddAddr never changes the host's network.
func TestAddAddrOutsideFails(t *testing.T) {
	output, passed := behaviour(t, "TestSubjectAddsOutside")
	require.False(t, passed, output)
	require.Contains(t, output, "call Isolate first")
}
