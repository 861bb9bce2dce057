//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/bench/internal/lab"
	"github.com/ephemera-go/ephemera/internal/netns"
)

// compare starts this program for its other processes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == clientRole || os.Args[1] == lab.ServerRole) {
		main()
		return
	}
	os.Exit(m.Run())
}

// Every contender of each cell dials and closes, and each figure has the name that bench/report reads.
func TestCompareMeasuresEveryContenderInEachCell(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	networks := []string{lab.Loopback}
	if _, err := exec.LookPath("ip"); err == nil {
		networks = append(networks, lab.Veth)
	}
	cells, err := matrix(strings.Join(networks, ","), "1", "2", "no,yes")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	ports := alloc.RangeSet(40000, 40009)
	if err := compare(&out, cells, 1, turn{Ports: ports, AtOnce: 2, For: 200 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + out.String())
	var want []string
	for _, network := range networks {
		for _, c := range []string{"net/no", "zero/no", "random/no", "noport/yes", "localaddr/yes", "pool/yes"} {
			name, source, _ := strings.Cut(c, "/")
			want = append(want, fmt.Sprintf("BenchmarkChurn/impl=%s/net=%s/reuse=1/upstreams=2/source=%s/ports=10",
				name, network, source))
		}
	}
	const figures = ` \t[1-9]\d*\t\d+\.\d dials/s\t\d+ failed\t\d+\.\d failed/s` +
		`\t[1-9]\d* p50-ns\t[1-9]\d* p99-ns\t[1-9]\d* cpu-ns\t\d+\.\d+ of-net$`
	for _, name := range want {
		if n := len(regexp.MustCompile(`(?m)^`+name+figures).FindAllString(out.String(), -1)); n != 1 {
			t.Errorf("%d rows of %s", n, name)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != len(want) {
		t.Errorf("%d rows, not %d", n, len(want))
	}
}

// A turn uses each tuple once. Then dials fail, because TIME_WAIT lasts longer than the turn.
func TestATurnCountsWhatFails(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	question := turn{
		Contender: "net", Cell: cell{lab.Loopback, 0, 2, false}, Ports: alloc.RangeSet(40000, 40009), AtOnce: 2,
		For: 1500 * time.Millisecond,
	}
	r, err := question.run()
	if err != nil {
		t.Fatal(err)
	}
	if r.OK != 20 || r.Failed == 0 {
		t.Errorf("%+v: 10 ports towards 2 destinations are 20 tuples", r)
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, ports := range []string{"", "40000", "40000-40002", "1000-1999", "40000-40001,40003-40004"} {
		if _, _, err := ends(alloc.MustParseSet(ports)); err == nil {
			t.Errorf("-ports %s", ports)
		}
	}
	for _, c := range [][3]string{{"3", "1", "no"}, {"", "1", "no"}, {"0", "0", "no"}, {"0", "1", "maybe"}} {
		if _, err := matrix("lo", c[0], c[1], c[2]); err == nil {
			t.Errorf("%q", c)
		}
	}
}
