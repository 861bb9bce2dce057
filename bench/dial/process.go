//go:build linux

package main

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// process is another one of this program that answers each line of JSON with another, until its standard input ends.
type process struct {
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
	end func() error
}

// start starts a process in the namespaces that attr asks for; nil means those of this process.
func start(attr *syscall.SysProcAttr, args ...string) (*process, error) {
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
	return &process{cmd, json.NewEncoder(in), json.NewDecoder(out), in.Close}, nil
}

func (p *process) ask(question, answer any) error {
	if err := p.in.Encode(question); err != nil {
		return err
	}
	return p.out.Decode(answer)
}

// stop returns when the process has ended and its sockets are gone.
func (p *process) stop() {
	p.end()
	p.cmd.Wait()
}

// serve answers each question on standard input.
func serve[Q, A any](answer func(Q) (A, error)) error {
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
