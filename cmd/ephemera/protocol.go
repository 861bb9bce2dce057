package main

import (
	"net/netip"

	"github.com/ephemera-go/ephemera/alloc"
)

// A job is what the parent writes to a worker's standard input, as one line of JSON: either a server's or a client's.
// The worker then reports on its standard output, a line of JSON each, and exits when its standard input closes:
// whatever ends the parent ends its workers.
type job struct {
	Server *serverJob `json:"server,omitempty"`
	Client *clientJob `json:"client,omitempty"`
}

// A serverJob asks for one listener that echoes the first byte of every connection and then holds it.
type serverJob struct {
	Address netip.Addr `json:"address"`
	Avoid   alloc.Set  `json:"avoid"` // the ports dialed from
}

// A clientJob asks for Connections connections. Numbered from First, the i-th goes to To[i % len(To)], so that the
// clients of a run together fill all destinations evenly. They are opened one destination after the other, To[Start]
// first.
type clientJob struct {
	Source      netip.Addr       `json:"source"`
	Ports       alloc.Set        `json:"ports"` // to dial from; no other client has any of them
	To          []netip.AddrPort `json:"to"`
	Start       int              `json:"start"`
	First       int              `json:"first"`
	Connections int              `json:"connections"`
	Echo        bool             `json:"echo"`  // the destinations echo the first byte
	Stock       bool             `json:"stock"` // dial with net.Dialer{LocalAddr: Source:0}
}

// A report is what a worker has to say: where its server listens, how many connections its client holds so far, that
// the client has ended, and why it ended before its time.
type report struct {
	Listening netip.AddrPort `json:"listening,omitzero"`
	Open      int            `json:"open,omitempty"`
	Ended     bool           `json:"ended,omitempty"`
	Error     string         `json:"error,omitempty"`
}
