package dialer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/ephemera-go/ephemera/internal/sockopt"
	"github.com/ephemera-go/ephemera/tuple"
)

// connectAlone is connect for a UDP socket whose tuple no other process must have.
func (a *attempt) connectAlone(ctx context.Context, t tuple.Tuple, l lane) (net.Conn, error) {
	unlock, err := a.excludeOthers(t)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return a.connect(ctx, t, l)
}

// excludeOthers makes sure that no other process has a connected UDP socket with the tuple t, nor gets one, if it does the same,
// until unlock is called, when ours must be connected. The error is errTaken if one has it.
//
// A look alone would let two processes pass that look before either connects; and afterwards the kernel, asked for a tuple that
// two sockets have, names only one of them. So whoever looks holds a lock of the tuple's name meanwhile.
func (a *attempt) excludeOthers(t tuple.Tuple) (unlock func(), err error) {
	local := a.localOf(t)
	if !local.Addr().IsValid() {
		source, err := sourceThrough(local.Port(), a.remote.Addr())
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, errTaken // a socket that shares its port with nobody
		}
		if err != nil {
			return nil, err
		}
		local = netip.AddrPortFrom(source, local.Port())
	}
	unlock, err = sockopt.Lock(fmt.Sprintf("ephemera/udp/%v", tuple.From(local, a.remote)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, errTaken
	}
	if err != nil {
		return nil, err
	}
	taken, err := hasSocket("udp", local, a.remote)
	if taken {
		err = errTaken
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// sourceThrough returns the source address that the kernel takes towards an address from a given port, so that it works when
// the kernel has no port of its own choice left. It asks for port 0 there, from which nothing ever comes: for this moment there
// may be two sockets with one tuple.
func sourceThrough(port uint16, to netip.Addr) (netip.Addr, error) {
	network := "udp4"
	if to.Is6() {
		network = "udp6"
	}
	d := net.Dialer{
		LocalAddr: &net.UDPAddr{Port: int(port)},
		Control: func(_, _ string, c syscall.RawConn) (err error) {
			c.Control(func(fd uintptr) { err = sockopt.ShareBind(int(fd)) })
			return err
		},
	}
	conn, err := d.Dial(network, netip.AddrPortFrom(to, 0).String())
	if err != nil {
		return netip.Addr{}, errors.Unwrap(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr(), nil
}
