//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/ephemera-go/ephemera/internal/netns"
)

// compare starts this program for its other processes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "contender" || os.Args[1] == "holder") {
		main()
		return
	}
	os.Exit(m.Run())
}

// Every contender fills the ports to the last and then fails. Each figure has the name that bench/report reads.
func TestCompareMeasuresEveryContenderAtEveryFill(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	var out bytes.Buffer
	if err := compare(&out, 200, 2, 3); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + out.String())
	var want []string
	for _, name := range contenders {
		for _, fill := range []string{"0", "50", "80", "90", "99", "99.9"} {
			want = append(want, fmt.Sprintf("BenchmarkDial/impl=%s/ports=200/held=%s", name, fill))
		}
		want = append(want, fmt.Sprintf("BenchmarkDialExhausted/impl=%s/ports=200", name))
	}
	for _, name := range want {
		row := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) +
			` +\t72\t[1-9]\d* p50-ns\t[1-9]\d* p99-ns\t\d+ cpu-ns$`)
		if n := len(row.FindAllString(out.String(), -1)); n != 1 {
			t.Errorf("%d rows of %s", n, name)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != len(want) {
		t.Errorf("%d rows, not %d", n, len(want))
	}
}

// connect(2) never uses the last port of an odd range.
func TestOddRangeIsRefused(t *testing.T) {
	for _, ports := range []int{0, 1, 201, 64514, -2} {
		if _, err := newContender("net", ports); err == nil {
			t.Errorf("%d ports", ports)
		}
	}
}
