// Command ephemera shows on this host what the ephemera library can do.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// cli is the command line: one field per subcommand.
type cli struct {
	Beyond beyondCmd `cmd:"" help:"Open more TCP connections from one source address than there are ports."`
	Worker workerCmd `cmd:"" hidden:"" help:"One process of a run; the other commands start it."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// Cleaning up after a million connections takes seconds. A second Ctrl-C ends the program at once.
	context.AfterFunc(ctx, stop)

	parser, err := kong.New(&cli{},
		kong.Name("ephemera"),
		kong.Description("A host has 65,536 port numbers, not 65,536 connections: "+
			"ephemera gives each connection a 4-tuple of its own."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		panic(err) // only if a tag in cli is wrong
	}
	args := os.Args[1:]
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	parser.FatalIfErrorf(err)
	k.FatalIfErrorf(k.Run())
}
