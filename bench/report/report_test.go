package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sample = `commit: abc
cpu: Some CPU
BenchmarkAcquireRelease/impl=ephemera/fill=0/goroutines=1-2	100	40.0 ns/op	0 B/op
BenchmarkAcquireRelease/impl=ephemera/fill=0/goroutines=1-2	100	90.0 ns/op	0 B/op
BenchmarkAcquireRelease/impl=ephemera/fill=0/goroutines=1-2	100	50.0 ns/op	0 B/op
BenchmarkAcquireRelease/impl=nextclear/fill=0/goroutines=1-2	100	25.0 ns/op
PASS
`

func sampled(t *testing.T) figures {
	path := filepath.Join(t.TempDir(), "alloc.txt")
	if err := os.WriteFile(path, []byte(sample), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := read(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestReadKeepsEveryRunOfABenchmark(t *testing.T) {
	f := sampled(t)
	if v, ok := f.median("AcquireRelease/impl=ephemera/fill=0/goroutines=1", "ns/op"); !ok || v != 50 {
		t.Errorf("median %v, %v", v, ok)
	}
	if _, ok := f.median("AcquireRelease/impl=other/fill=0/goroutines=1", "ns/op"); ok {
		t.Error("a median of nothing")
	}
	if f.config["commit"] != "abc" || f.config["cpu"] != "Some CPU" {
		t.Error(f.config)
	}
}

func TestRenderSaysWhichBarsAreMet(t *testing.T) {
	text := render(map[string]figures{"alloc": sampled(t)})
	for _, want := range []string{
		"| alloc at 0 % ÷ NextClear | ≤ 1.50 | 2.00 | **missed** |",
		"| alloc at 50 % ÷ NextClear | ≤ 1.50 | NaN | not measured |",
		"| 0 % | 50.0 | 25.0 (0.50×) |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

// A bar that nothing was measured for is neither met nor missed.
func TestBarsOfNothingAreNotMeasured(t *testing.T) {
	for _, bar := range bars(map[string]figures{}) {
		if !strings.Contains(bar.row(), "not measured") {
			t.Error(bar.row())
		}
	}
}

func TestHumanGroupsThousands(t *testing.T) {
	for v, want := range map[float64]string{0.123: "0.12", 9.876: "9.88", 12.34: "12.3", 1234.5: "1,234", 1e9: "1,000,000,000"} {
		if got := human(v); got != want {
			t.Errorf("human(%v) = %q, want %q", v, got, want)
		}
	}
}
