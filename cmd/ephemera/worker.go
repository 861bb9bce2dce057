package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"sync"
)

// workerCmd is one process of a run. It reads a job from its standard input, does it, and holds its connections until
// the input closes.
type workerCmd struct{}

// Run ends the process itself, because that closes all connections at once.
func (*workerCmd) Run() error {
	// The terminal sends Ctrl-C to all processes of the run. Only the parent reacts to it.
	signal.Ignore(os.Interrupt)

	in := json.NewDecoder(os.Stdin)
	var j job
	switch err := in.Decode(&j); {
	case errors.Is(err, io.EOF):
		return nil // the parent ended before it sent a job
	case err != nil:
		return fmt.Errorf("cannot read a job from standard input: the other commands start workers: %w", err)
	}
	out := &reporter{enc: json.NewEncoder(os.Stdout)}
	var held holder
	switch {
	case j.Server != nil:
		go j.Server.run(&held, out.send)
	case j.Client != nil:
		go j.Client.run(&held, out.send)
	default:
		return errors.New("no job on standard input: the other commands start workers")
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(&held)
	os.Exit(0)
	return nil
}

// A reporter writes the reports of several goroutines.
type reporter struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (r *reporter) send(rep report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.enc.Encode(rep) != nil {
		os.Exit(1) // the parent has ended
	}
}
