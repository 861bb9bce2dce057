// Package netns runs a test in a private network namespace, with its own loopback, ports and net.* sysctls. Such a test
// can fill a port range, or change how the kernel picks ports, without effect on the host. It needs no privilege if the
// system allows user namespaces.
//
//	func TestFullRange(t *testing.T) {
//		if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
//			return
//		}
//		// Here the host has 1,000 ephemeral ports, and all of them are free.
//	}
//
// [NewLink] joins the network to another one by a link with a delay and a loss. [NewVeth] joins them by a link without.
//
// A network namespace belongs to threads, and a Go test runs on many. So [Isolate] runs the test again, alone, in a
// process of its own.
package netns

import (
	"flag"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// variable is the environment variable with the name of the test that a child process runs. After that test has called
// Isolate, its value is "inside" for this process and for the processes that it starts.
const variable = "EPHEMERA_NETNS_TEST"

// arguments returns the flags that make the test binary run one test as it runs in this process. They are the flags of
// the binary itself, and those of package testing that affect the test. The child gets no flags for coverage and
// profiles, because it would overwrite the files of the parent.
func arguments(name string, deadline time.Time, hasDeadline bool) []string {
	args := []string{
		"-test.run=" + pattern(name),
		"-test.v=true", // it prints the reason of a skip
		"-test.count=1",
		fmt.Sprintf("-test.cpu=%d", runtime.GOMAXPROCS(0)),
	}
	timeout := time.Duration(0)
	if hasDeadline {
		// The child must time out first, and print the stacks of its goroutines. A tenth of three seconds was not
		// enough for that on a busy host.
		left := time.Until(deadline)
		timeout = max(left-min(left/4, 10*time.Second), time.Millisecond)
	}
	args = append(args, "-test.timeout="+timeout.String())
	flag.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "test.short", "test.parallel", "test.paniconexit0":
		default:
			if strings.HasPrefix(f.Name, "test.") {
				return
			}
		}
		args = append(args, "-"+f.Name+"="+f.Value.String())
	})
	return args
}

// pattern returns the -test.run pattern that matches the test or subtest alone.
func pattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// quote marks the lines of a child's output, so that tools that read test output do not mistake a "--- FAIL" in it for
// one of the parent.
func quote(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return "| " + strings.Join(lines, "\n| ")
}

// reason returns the output of a skipped child without the lines that package testing adds.
func reason(output string) string {
	var said []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		isFrame := func(prefix string) bool { return strings.HasPrefix(line, prefix) }
		if line == "PASS" || slices.ContainsFunc([]string{"=== ", "--- ", "coverage:"}, isFrame) {
			continue
		}
		said = append(said, line)
	}
	return strings.Join(said, "\n")
}

// setting splits "net.a.b=value". It rejects sysctls outside net, because they are not private to a network namespace:
// they would change the host.
func setting(t testing.TB, sysctl string) (path, value string) {
	t.Helper()
	name, value, ok := strings.Cut(sysctl, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok || !strings.HasPrefix(name, "net.") || strings.ContainsAny(name, "/ ") || strings.Contains(name, "..") {
		t.Fatalf("netns: invalid sysctl of a network namespace: write net.name=value, not %q", sysctl)
	}
	return "/proc/sys/" + strings.ReplaceAll(name, ".", "/"), value
}
