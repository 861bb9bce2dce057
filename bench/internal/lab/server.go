//go:build linux

package lab

import (
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/ephemera-go/ephemera/internal/netns"
)

// ServerRole is the first argument of the process that [Open] starts. With it, the program must call [ServeNetwork].
const ServerRole = "server"

// Service says what a server does.
type Service struct {
	Destinations int  // how many ports it listens on
	ClosesFirst  bool // close each connection at once, instead of sending a byte and waiting for the client to close

	Network string // set by Open
}

// ServeNetwork runs in the process of the server.
func ServeNetwork() error {
	return Serve(func(s Service) (struct{}, error) {
		if s.Network == Veth {
			if err := netns.Up(); err != nil {
				return struct{}{}, err
			}
			if err := set(common...); err != nil {
				return struct{}{}, err
			}
			if err := addTo(farEnd, far[s.Network]); err != nil {
				return struct{}{}, err
			}
		}
		for i := range s.Destinations {
			l, err := net.Listen("tcp", netip.AddrPortFrom(far[s.Network].Addr(), uint16(firstPort+i)).String())
			if err != nil {
				return struct{}{}, fmt.Errorf("the server cannot listen: %w", err)
			}
			go s.accept(l)
		}
		return struct{}{}, nil
	})
}

func (s Service) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		switch {
		case err != nil:
			return
		case s.ClosesFirst:
			c.Close()
		default:
			go func() {
				c.Write([]byte{1})
				io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}
}
