package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// beyond: how many connections one source address has at once, with ephemera and with net.Dialer{LocalAddr: …}.
var beyondPart = part{
	name:    "beyond",
	command: "go run ./cmd/ephemera beyond   # and with --stock",
	build:   []string{"build", "./cmd/ephemera"},
	round: func(program string, out io.Writer) error {
		return errors.Join(beyond(program, out, "ephemera"), beyond(program, out, "net", "--stock"))
	},
	rounds: 3,
	bars: func(f figures) []bar {
		return []bar{atLeast("beyond: connections from one source address", 65_537,
			f.values["Beyond/impl=ephemera"]["connections"])}
	},
	tables: beyondTables,
}

// million: the same with a million connections.
var millionPart = part{
	name:    "million",
	command: "go run ./cmd/ephemera beyond -n 1000000",
	build:   []string{"build", "./cmd/ephemera"},
	round: func(program string, out io.Writer) error {
		return beyond(program, out, "ephemera", "-n", "1000000")
	},
	rounds:    1,
	onlyNamed: true,
	bars: func(f figures) []bar {
		return []bar{atLeast("beyond: the same with -n 1000000", 1_000_000,
			f.values["Beyond/impl=ephemera"]["connections"])}
	},
	tables: beyondTables,
}

// beyondKept are the figures that are kept from the table of the command: the label there, and the unit here.
var beyondKept = []struct{ label, unit string }{
	{"connections", "connections"}, {"distinct local ports", "local-ports"}, {"seconds", "seconds"},
}

// beyond runs the command. It writes the output of the command, and the figures that are kept as a line in the format
// of Go benchmarks.
func beyond(program string, out io.Writer, impl string, flags ...string) error {
	var printed bytes.Buffer
	cmd := exec.Command(program, append([]string{"beyond"}, flags...)...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(out, &printed), os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if impl == "net" && errors.As(err, &exit) {
		err = nil // net.Dialer stops early, as expected
	}
	line, unread := beyondLine(impl, printed.String())
	if err := errors.Join(err, unread); err != nil {
		return fmt.Errorf("%s: %w", cmd, err)
	}
	_, err = io.WriteString(out, line)
	return err
}

// beyondLine returns the benchmark line for the output of the command.
func beyondLine(impl, printed string) (string, error) {
	line := "BenchmarkBeyond/impl=" + impl + " \t1"
	for _, kept := range beyondKept {
		_, after, _ := strings.Cut("\n"+printed, "\n"+kept.label+"  ") // connections is not connections/s
		words := strings.Fields(after)
		if len(words) == 0 {
			return "", fmt.Errorf("the command printed no line %q: its table must have changed", kept.label)
		}
		line += "\t" + strings.ReplaceAll(words[0], ",", "") + " " + kept.unit
	}
	return line + "\n", nil
}

func beyondTables(f figures) []table {
	t := table{
		title:  "connections at once from one source address",
		header: []string{"dialer", "connections", "local ports", "seconds"},
	}
	for _, c := range []column{{name: "ephemera", title: "ephemera"}, {name: "net", title: "net.Dialer, LocalAddr"}} {
		cells := []string{c.title}
		name := "Beyond/impl=" + c.name
		for _, kept := range beyondKept {
			cells = append(cells, human(f.median(name, kept.unit)))
		}
		if f.values[name] != nil {
			t.rows = append(t.rows, cells)
		}
	}
	return []table{t}
}
