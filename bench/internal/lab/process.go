//go:build linux

// Package lab helps the benchmarks that open connections: with processes that answer questions, the CPU time of a
// process, and a network that has a server in a process of its own.
package lab

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Process is another process of this program. It answers each line of JSON with one line of JSON, until its standard
// input ends. It is not safe for concurrent use.
type Process struct {
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
	end func() error
}

// Start starts a process of this program in the namespaces of attr. nil means the namespaces of this process.
func Start(attr *syscall.SysProcAttr, args ...string) (*Process, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Stderr, cmd.SysProcAttr = os.Stderr, attr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Process{cmd, json.NewEncoder(in), json.NewDecoder(out), in.Close}, nil
}

// Ask sends a question and reads the answer.
func (p *Process) Ask(question, answer any) error {
	if err := p.in.Encode(question); err != nil {
		return err
	}
	return p.out.Decode(answer)
}

// Stop ends the process, and returns when its sockets are gone.
func (p *Process) Stop() {
	p.end()
	p.cmd.Wait()
}

// Serve answers each question on standard input, until that ends or answer fails.
func Serve[Q, A any](answer func(Q) (A, error)) error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var question Q
		if err := in.Decode(&question); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		a, err := answer(question)
		if err != nil {
			return err
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

// CPUTime returns the CPU time that this process has used, including system calls.
func CPUTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
