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

// part is something to measure: how that is done, what is shown of it, and what it should be.
type part struct {
	name      string
	command   string   // what to type for one round
	build     []string // what go is told, less where to put the program
	round     func(program string, out io.Writer) error
	rounds    int  // in a round each contender has its turn, so what disturbs one disturbs all
	onlyNamed bool // too much for every run

	bars   func(figures) []bar
	tables func(figures) []table
	charts func(figures) ([]chart, error)
}

// runs is a round of one command.
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

// measure runs the rounds. What they print is in a file at once, and that file takes the place of the former one when
// all are done: whatever happens, neither is lost.
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
			return fmt.Errorf("round %d: %w (what it printed is in %s)", i+1, err, out.Name())
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(out.Name(), path)
}

// setting says what the figures depend on, as configuration lines of the Go benchmark format.
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

// commit names what is measured. What the report itself writes does not count as a change.
func commit() string {
	name := output("git", "rev-parse", "--short", "HEAD")
	if output("git", "status", "--porcelain", "--", ".", ":!"+raw, ":!"+plots, ":!"+results) != "" {
		name += " with changes"
	}
	return name
}

// cpu returns what Linux calls the processor: not every part prints it.
func cpu() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// output returns what a command prints, nothing if there is no such command.
func output(name string, args ...string) string {
	text, _ := exec.Command(name, args...).Output()
	return strings.TrimSpace(string(text))
}
