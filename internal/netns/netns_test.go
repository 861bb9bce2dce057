package netns

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The pattern matches only the one test, for any characters in its name.
func TestPattern(t *testing.T) {
	require.Equal(t, `^TestA$`, pattern("TestA"))
	require.Equal(t, `^TestA$/^b\.c\+d#01$/^e_f$`, pattern("TestA/b.c+d#01/e_f"))
}

// The child runs as this process does, but it writes no profiles and ends before the deadline of this process.
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

// quote marks output, so that it cannot look like a result of the parent. reason returns the reason of a skip without
// the lines of package testing.
func TestOutput(t *testing.T) {
	output := "=== RUN   TestA\n    a_test.go:7: no such thing\n--- SKIP: TestA (0.00s)\nPASS\n"
	require.Equal(t, "a_test.go:7: no such thing", reason(output))
	require.Equal(t, "| === RUN   TestA\n|     a_test.go:7: no such thing\n| --- SKIP: TestA (0.00s)\n| PASS",
		quote(output))
}

// setting accepts only sysctls of the network namespace, because others belong to the host.
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

// recorder records a call of Fatalf and does not fail the test.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(string, ...any) {
	r.failed = true
	panic("fatal")
}
