//go:build !linux

package sockopt

import (
	"errors"
	"net/netip"
)

// Supported says whether exact local ports work on this system.
const Supported = false

// Kernel returns the zero Abilities.
func Kernel() (Abilities, error) { return Abilities{}, nil }

// Namespace returns 0.
func Namespace(fd int) uint64 { return 0 }

// OnePort fails: it needs Linux.
func OnePort(fd int, port uint16) error { return errors.ErrUnsupported }

// BindAddress fails: it needs Linux.
func BindAddress(fd int, ip netip.Addr) error { return errors.ErrUnsupported }

// FreeBind fails: it needs Linux.
func FreeBind(fd int) error { return errors.ErrUnsupported }

// ShareBind fails: it needs Linux.
func ShareBind(fd int) error { return errors.ErrUnsupported }

// Lock fails: it needs Linux.
func Lock(name string) (unlock func(), err error) { return nil, errors.ErrUnsupported }

// SharesPort reports false.
func SharesPort(fd int) bool { return false }

// SourceOf fails: it needs Linux.
func SourceOf(fd int, remote netip.Addr, p Path) (netip.AddrPort, error) {
	return netip.AddrPort{}, errors.ErrUnsupported
}

// IsChosen reports false.
func IsChosen(fd int) bool { return false }

// OnlyIPv6 fails: it needs Linux.
func OnlyIPv6(fd int) error { return errors.ErrUnsupported }

// KeepPort fails: it needs Linux.
func KeepPort(fd int) error { return errors.ErrUnsupported }

// Drain does nothing.
func Drain(fd uintptr) {}

// BindPort fails: it needs Linux.
func BindPort(fd int, local netip.AddrPort) error { return errors.ErrUnsupported }

// Connect fails: it needs Linux.
func Connect(fd int, remote netip.AddrPort) error { return errors.ErrUnsupported }

// Local fails: it needs Linux.
func Local(fd int) (netip.AddrPort, error) { return netip.AddrPort{}, errors.ErrUnsupported }

// Cookie fails: it needs Linux.
func Cookie(fd int) (uint64, error) { return 0, errors.ErrUnsupported }

// IsTCP reports false.
func IsTCP(fd int) bool { return false }

// Renew fails: it needs Linux.
func Renew(fd int) error { return errors.ErrUnsupported }

// PathOf returns the zero Path.
func PathOf(fd int) Path { return Path{} }

// Index returns 0.
func Index(device string) int { return 0 }

// Source fails: it needs Linux.
func Source(remote netip.AddrPort, p Path) (netip.Addr, error) {
	return netip.Addr{}, errors.ErrUnsupported
}

// Read fails: it needs Linux.
func Read(fd int) (State, error) { return State{}, errors.ErrUnsupported }
