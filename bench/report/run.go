package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// part is a benchmark: a Go one, run round after round, or a command, run once.
type part struct {
	name, pkg string
	args      []string
	once      bool
}

var parts = []part{
	{"alloc", "./bench/alloc", []string{"-test.run=^$", "-test.bench=.", "-test.benchtime=20ms"}, false},
	{"tuple", "./bench/tuple", []string{"-test.run=^$", "-test.bench=Contains|AcquireRelease", "-test.benchtime=20ms"}, false},
	{"memory", "./bench/tuple", []string{"-test.run=^$", "-test.bench=Memory", "-test.benchtime=1x"}, true},
	{"dial", "./bench/dial", nil, true},
	{"scale", "./bench/scale", nil, true},
}

// run builds the part, runs it and keeps what it printed, after what is to be known of the machine.
func (p part) run(rounds int) error {
	dir, err := os.MkdirTemp("", "ephemera-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := dir + "/bench"
	build := []string{"build", "-o", program, p.pkg}
	if p.args != nil {
		build = []string{"test", "-c", "-o", program, p.pkg}
	}
	if err := command(nil, "go", build...); err != nil {
		return err
	}
	if p.once {
		rounds = 1
	}
	out := bytes.NewBufferString(machine())
	for range rounds {
		if err := command(out, program, p.args...); err != nil {
			return err
		}
	}
	return os.WriteFile(raw+p.name+".txt", out.Bytes(), 0o666)
}

func command(out *bytes.Buffer, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	if out != nil {
		cmd.Stdout = out
	}
	return cmd.Run()
}

// machine says what the figures depend on, as configuration lines of the Go benchmark format.
func machine() string {
	return fmt.Sprintf("date: %s\ncommit: %s\ngo: %s\nkernel: %s\ncores: %d\n", time.Now().UTC().Format("2 January 2006"),
		output("git", "rev-parse", "--short", "HEAD"), runtime.Version(), output("uname", "-sr"), runtime.NumCPU())
}

// output returns what a command prints, nothing if there is no such command.
func output(name string, args ...string) string {
	text, _ := exec.Command(name, args...).Output()
	return strings.TrimSpace(string(text))
}
