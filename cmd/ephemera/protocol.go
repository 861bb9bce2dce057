package main

import (
	"net/netip"

	"github.com/ephemera-go/ephemera/alloc"
)

// A job is what the parent writes to a worker's standard input, as one line of JSON: a server's job or a client's. The
// worker then writes reports to its standard output, one line of JSON each. It exits when its standard input closes, so
// the workers end when the parent ends, for any reason.
type job struct {
	Server *serverJob `json:"server,omitempty"`
	Client *clientJob `json:"client,omitempty"`
}

// A serverJob asks for one listener that echoes the first byte of every connection and then holds the connection.
type serverJob struct {
	Address netip.Addr `json:"address"`
	Avoid   alloc.Set  `json:"avoid"` // the ports that clients dial from
}

// A clientJob asks for Connections connections, numbered from First. Number i goes to To[i % len(To)], so that all
// clients of a run together fill the destinations evenly. A client opens one destination after the other, To[Start]
// first.
type clientJob struct {
	Source      netip.Addr       `json:"source"`
	Ports       alloc.Set        `json:"ports"` // to dial from; no other client has them
	To          []netip.AddrPort `json:"to"`
	Start       int              `json:"start"`
	First       int              `json:"first"`
	Connections int              `json:"connections"`
	Echo        bool             `json:"echo"`  // the destinations echo the first byte
	Stock       bool             `json:"stock"` // dial with net.Dialer{LocalAddr: Source:0}
}

// A report is what a worker tells its parent: the address of its server, or how many connections its client holds,
// whether the client has ended, and the error that ended it early.
type report struct {
	Listening netip.AddrPort `json:"listening,omitzero"`
	Open      int            `json:"open,omitempty"`
	Ended     bool           `json:"ended,omitempty"`
	Error     string         `json:"error,omitempty"`
}
