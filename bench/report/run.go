package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// part is a part of the report: how to measure it, its tables and charts, and its targets.
type part struct {
	name      string
	command   string   // the command of one round
	build     []string // the arguments of go that build the program, without -o
	round     func(program string, out io.Writer) error
	rounds    int  // in a round each contender runs once, so noise hits all of them
	onlyNamed bool // run it only if -only names it

	bars   func(figures) []bar
	tables func(figures) []table
	charts func(figures) ([]chart, error)
}

// runs returns a round that runs the program with these arguments.
func runs(args ...string) func(program string, out io.Writer) error {
	return func(program string, out io.Writer) error {
		cmd := exec.Command(program, args...)
		cmd.Stdout, cmd.Stderr = out, os.Stderr
		return cmd.Run()
	}
}

// run builds the part and measures it.
func (p part) run(rounds int) error {
	if rounds <= 0 || p.rounds == 1 {
		rounds = p.rounds
	}
	dir, err := os.MkdirTemp("", "ephemera-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := dir + "/" + p.name
	build := exec.Command("go", append([]string{p.build[0], "-o", program}, p.build[1:]...)...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("%s: %w", build, err)
	}
	return p.measure(program, rounds)
}

// measure runs the rounds. It writes their output to a new file at once, and replaces the old file when all rounds are
// done. So neither is lost if a round fails.
func (p part) measure(program string, rounds int) error {
	path := raw + p.name + ".txt"
	out, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := out.WriteString(setting()); err != nil {
		return err
	}
	for i := range rounds {
		log.Printf("%s, round %d of %d …", p.name, i+1, rounds)
		if err := p.round(program, out); err != nil {
			return fmt.Errorf("a round failed: %w (round %d; its output is in %s)", err, i+1, out.Name())
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(out.Name(), path)
}

// setting returns what the figures depend on, as configuration lines of the Go benchmark format.
func setting() string {
	var b strings.Builder
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, value)
		}
	}
	line("date", time.Now().UTC().Format("2 January 2006"))
	line("commit", commit())
	line("go", runtime.Version())
	line("kernel", output("uname", "-sr"))
	line("cpu", cpu())
	line("cores", fmt.Sprint(runtime.NumCPU()))
	return b.String()
}

// commit names the commit that is measured. Files that the report writes do not count as changes.
func commit() string {
	name := output("git", "rev-parse", "--short", "HEAD")
	if output("git", "status", "--porcelain", "--", ".", ":!"+raw, ":!"+plots, ":!"+results) != "" {
		name += " with changes"
	}
	return name
}

// cpu returns the name of the processor, on Linux. Only some parts print it themselves.
func cpu() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// output returns what a command prints, or nothing if it fails.
func output(name string, args ...string) string {
	text, _ := exec.Command(name, args...).Output()
	return strings.TrimSpace(string(text))
}
