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

// workerCmd is one process of a run: it does the job on its standard input and holds its connections until that closes.
type workerCmd struct{}

// Run ends the process itself: exiting closes all connections, and none of them needs more than that.
func (*workerCmd) Run() error {
	// The terminal sends Ctrl-C to all processes of the run; the parent decides what follows from it.
	signal.Ignore(os.Interrupt)

	in := json.NewDecoder(os.Stdin)
	var j job
	switch err := in.Decode(&j); {
	case errors.Is(err, io.EOF):
		return nil // the parent was gone before it had said anything
	case err != nil:
		return fmt.Errorf("a worker is started by the other commands, with its job on standard input: %w", err)
	}
	out := &reporter{enc: json.NewEncoder(os.Stdout)}
	var held holder
	switch {
	case j.Server != nil:
		go j.Server.run(&held, out.send)
	case j.Client != nil:
		go j.Client.run(&held, out.send)
	default:
		return errors.New("a worker needs a server's or a client's job on standard input")
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
		os.Exit(1) // nobody reads any more: the parent is gone
	}
}
