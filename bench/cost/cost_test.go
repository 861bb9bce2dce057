//go:build linux

package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ephemera-go/ephemera/bench/internal/lab"
	"github.com/ephemera-go/ephemera/internal/netns"
)

// compare starts this program for its other processes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == contenderRole || os.Args[1] == lab.ServerRole) {
		main()
		return
	}
	os.Exit(m.Run())
}

// Every contender has a line a round, with the name that bench/report reads. Those that are compared have a line of
// ratios.
func TestCompareMeasuresEveryContender(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	var out bytes.Buffer
	if err := compare(&out, lab.Loopback, 2, 20); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + out.String())
	const figures = ` \t20\t[1-9]\d* ns/op\t[1-9]\d* p50-ns\t\d+ cpu-ns\t[1-9]\d* B/op\t[1-9]\d*\.\d\d allocs/op$`
	lines := 0
	for _, c := range contenders {
		row := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(c.row()) + figures)
		if n := len(row.FindAllString(out.String(), -1)); n != 2 {
			t.Errorf("%d lines of %s", n, c.row())
		}
		if lines += 2; c.against == "" {
			continue
		}
		lines++
		want := "\n" + c.name + " ÷ " + c.against + ", " + c.protocol + ": mean "
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q", want)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != lines {
		t.Errorf("%d lines, not %d", n, lines)
	}
}

func TestRatioIsTheMedianOverTheRounds(t *testing.T) {
	costs := func(wall ...time.Duration) (all []cost) {
		for _, w := range wall {
			all = append(all, cost{Wall: w})
		}
		return all
	}
	over, under := costs(30, 80, 10, 20), costs(10, 10, 10, 10)
	if got := ratio(over, under, func(c cost) float64 { return float64(c.Wall) }); got != 2.5 {
		t.Error(got)
	}
}
