package netns

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The pattern runs the one test, whatever characters its name has.
func TestPattern(t *testing.T) {
	require.Equal(t, `^TestA$`, pattern("TestA"))
	require.Equal(t, `^TestA$/^b\.c\+d#01$/^e_f$`, pattern("TestA/b.c+d#01/e_f"))
}

// The child runs as this process does, but never with its profiles and never
// beyond its deadline.
func TestArguments(t *testing.T) {
	args := arguments("TestA", time.Now().Add(time.Hour), true)
	require.Contains(t, args, "-test.run=^TestA$")
	require.Contains(t, args, "-test.v=true")
	for _, a := range args {
		require.NotRegexp(t, `^-test\.(cover|gocoverdir|testlogfile|.*profile|bench|fuzz)`, a)
	}
	timeout := func(left time.Duration) time.Duration {
		for _, a := range arguments("TestA", time.Now().Add(left), true) {
			if s, ok := strings.CutPrefix(a, "-test.timeout="); ok {
				d, err := time.ParseDuration(s)
				require.NoError(t, err)
				return d
			}
		}
		t.Fatal("no timeout")
		return 0
	}
	require.Less(t, timeout(time.Hour), time.Hour)
	require.Greater(t, timeout(time.Hour), 59*time.Minute)
	require.LessOrEqual(t, timeout(time.Second), 750*time.Millisecond)
	require.Positive(t, timeout(-time.Second), "0 would mean no timeout")
	require.Contains(t, arguments("TestA", time.Time{}, false), "-test.timeout=0s")
}

// What is logged cannot be taken for a result of the parent's own, and the
// reason of a skip is told without the child's frame.
func TestOutput(t *testing.T) {
	output := "=== RUN   TestA\n    a_test.go:7: no such thing\n--- SKIP: TestA (0.00s)\nPASS\n"
	require.Equal(t, "a_test.go:7: no such thing", reason(output))
	require.Equal(t, "| === RUN   TestA\n|     a_test.go:7: no such thing\n| --- SKIP: TestA (0.00s)\n| PASS", quote(output))
}

// Only sysctls of the network namespace are let through: others are the host's.
func TestSetting(t *testing.T) {
	path, value := setting(t, "net.ipv4.ip_local_port_range = 40000 40999")
	require.Equal(t, "/proc/sys/net/ipv4/ip_local_port_range", path)
	require.Equal(t, "40000 40999", value)
	for _, bad := range []string{
		"net.ipv4.ip_forward", "kernel.pid_max=1", "net./../kernel=1", "net...kernel=1", "net. x=1", "", "=",
	} {
		r := &recorder{TB: t}
		func() {
			defer func() { _ = recover() }()
			setting(r, bad)
		}()
		require.True(t, r.failed, bad)
	}
}

// recorder notes Fatalf rather than failing the test that provokes it.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(string, ...any) {
	r.failed = true
	panic("fatal")
}
