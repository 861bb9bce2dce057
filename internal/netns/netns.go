// Package netns gives a test a network of its own: a private network namespace
// with its own loopback, ports and net.* sysctls, without privilege where the
// system allows user namespaces. A test that fills a port range, or changes how
// the kernel picks ports, then disturbs nobody and meets nobody.
//
//	func TestFullRange(t *testing.T) {
//		if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
//			return
//		}
//		// Here the host has 1,000 ephemeral ports, and all of them are free.
//	}
//
// [NewLink] and [NewVeth] join such a network to another one, over a link with a
// delay and a loss of its own, or without.
//
// A network namespace belongs to threads, and a Go test runs on many; so
// [Isolate] runs the test again, alone, in a process of its own.
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

// variable names, in the environment, the test that a process is to isolate. Once
// that has been done it says only that this process, and what it starts, is inside.
const variable = "EPHEMERA_NETNS_TEST"

// arguments returns the flags that make the test binary run the one test as it
// runs in this process: only flags of the binary's own, and of package testing
// those that touch the test. Coverage and profiles stay with the parent, whose
// files the child would overwrite.
func arguments(name string, deadline time.Time, hasDeadline bool) []string {
	args := []string{
		"-test.run=" + pattern(name),
		"-test.v=true", // a reason to skip is printed only so
		"-test.count=1",
		fmt.Sprintf("-test.cpu=%d", runtime.GOMAXPROCS(0)),
	}
	timeout := time.Duration(0)
	if hasDeadline {
		// The child ends first, with the stacks of its goroutines in its output. A tenth
		// of three seconds was not enough for that on a busy host.
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

// quote sets the lines of a child's output apart from the parent's own, so that
// no reader of test output takes a "--- FAIL" within for one of the parent's.
func quote(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return "| " + strings.Join(lines, "\n| ")
}

// reason returns what a skipped child had to say, without the frame around it.
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

// setting splits "net.a.b=value". It takes nothing outside net: other sysctls
// are not private to a network namespace, and would change the host.
func setting(t testing.TB, sysctl string) (path, value string) {
	t.Helper()
	name, value, ok := strings.Cut(sysctl, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok || !strings.HasPrefix(name, "net.") || strings.ContainsAny(name, "/ ") || strings.Contains(name, "..") {
		t.Fatalf("netns: %q is no sysctl of a network namespace: write net.name=value", sysctl)
	}
	return "/proc/sys/" + strings.ReplaceAll(name, ".", "/"), value
}
