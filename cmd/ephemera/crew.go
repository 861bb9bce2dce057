package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// goodbye is how long a worker may take to exit after its standard input is closed. Then it is killed.
const goodbye = 10 * time.Second

// A crew is the worker processes of a run. They live until close is called or the context of newCrew ends.
type crew struct {
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	reports chan workerReport
}

// A workerReport is a report with the number of its worker. If a worker ends before the crew does, its last report has
// an error.
type workerReport struct {
	worker int
	report
}

func newCrew(ctx context.Context) *crew {
	ctx, cancel := context.WithCancel(ctx)
	return &crew{ctx: ctx, cancel: cancel, reports: make(chan workerReport)}
}

// start runs the job in a new process.
func (c *crew) start(worker int, j job) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot start a worker process: %w", err)
	}
	cmd := exec.CommandContext(c.ctx, exe, "worker")
	cmd.Stderr = os.Stderr
	// A worker ends when its standard input closes. So all workers end when this process ends, for any reason.
	stdin, stdout, err := pipes(cmd)
	if err == nil {
		cmd.Cancel, cmd.WaitDelay = stdin.Close, goodbye
		err = cmd.Start()
	}
	switch {
	case err != nil && c.ctx.Err() != nil:
		return errInterrupted
	case err != nil:
		return fmt.Errorf("cannot start a worker process: %w", err)
	}
	c.wg.Go(func() {
		err := json.NewEncoder(stdin).Encode(j)
		for in := json.NewDecoder(stdout); err == nil; {
			var r report
			if err = in.Decode(&r); err == nil {
				c.tell(workerReport{worker, r})
			}
		}
		_ = stdin.Close() // ends a worker whose output does not decode
		if werr := cmd.Wait(); werr != nil {
			err = werr
		}
		c.tell(workerReport{worker, report{
			Error: fmt.Sprintf("a worker process ended early: %v (process %d)", err, cmd.Process.Pid),
		}})
	})
	return nil
}

func pipes(cmd *exec.Cmd) (io.WriteCloser, io.ReadCloser, error) {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	stdout, err := cmd.StdoutPipe()
	return stdin, stdout, err
}

func (c *crew) tell(r workerReport) {
	select {
	case c.reports <- r:
	case <-c.ctx.Done():
	}
}

// next waits for a report. It fails when the run is interrupted.
func (c *crew) next() (workerReport, error) {
	select {
	case r := <-c.reports:
		return r, nil
	case <-c.ctx.Done():
		return workerReport{}, errInterrupted
	}
}

// failure returns an error if the run was interrupted or a worker has ended.
func (c *crew) failure() error {
	select {
	case <-c.ctx.Done():
		return errInterrupted
	case r := <-c.reports:
		return errors.New(r.Error)
	default:
		return nil
	}
}

// close ends all workers. It returns when the last of them, and so every socket, is gone.
func (c *crew) close() {
	c.cancel()
	c.wg.Wait()
}
