package tuple

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

const arrow = "->"

// Parse parses the text that String returns for a valid Tuple:
//
//	192.0.2.1:49152->198.51.100.7:443
//	[2001:db8::1]:49152->[2001:db8::2]:443
func Parse(s string) (Tuple, error) {
	t, err := parse(s)
	if err != nil {
		return Tuple{}, fmt.Errorf("tuple: parse: %w: %q", err, s)
	}
	return t, nil
}

func parse(s string) (Tuple, error) {
	from, to, found := strings.Cut(s, arrow)
	if !found {
		return Tuple{}, errors.New("no -> between source and destination")
	}
	src, err := parseEnd("source", from)
	if err != nil {
		return Tuple{}, err
	}
	dst, err := parseEnd("destination", to)
	if err != nil {
		return Tuple{}, err
	}
	t := From(src, dst)
	switch {
	case src.Addr().Unmap().Is4() != dst.Addr().Unmap().Is4():
		return Tuple{}, errors.New("source and destination are of different address families")
	case dst.Addr().Unmap().IsUnspecified():
		return Tuple{}, errors.New("the destination is the unspecified address")
	}
	return t, nil
}

func parseEnd(which, s string) (netip.AddrPort, error) {
	end, err := netip.ParseAddrPort(s)
	switch {
	case err != nil:
		return end, fmt.Errorf("the %s is not address:port or [address]:port", which)
	case end.Addr().Zone() != "":
		return end, fmt.Errorf("the %s has a zone, which a tuple does not have: leave it out", which)
	case end.Port() == 0:
		return end, fmt.Errorf("the %s has port 0", which)
	}
	return end, nil
}

// MustParse is Parse for text that is known to be right, such as a literal. It panics if Parse fails.
func MustParse(s string) Tuple {
	t, err := Parse(s)
	if err != nil {
		panic(err)
	}
	return t
}

// String returns t in the form that Parse reads, which errors of package net use too. It returns "invalid Tuple" for
// the zero Tuple.
func (t Tuple) String() string {
	if t == (Tuple{}) {
		return "invalid Tuple"
	}
	b := append(t.Src().AppendTo(make([]byte, 0, 64)), arrow...)
	return string(t.Dst().AppendTo(b))
}

// AppendText implements [encoding.TextAppender]. It appends what String returns, and nothing for the zero Tuple.
func (t Tuple) AppendText(b []byte) ([]byte, error) {
	if t == (Tuple{}) {
		return b, nil
	}
	b = append(t.Src().AppendTo(b), arrow...)
	return t.Dst().AppendTo(b), nil
}

// MarshalText implements [encoding.TextMarshaler]: it returns what AppendText appends.
func (t Tuple) MarshalText() ([]byte, error) { return t.AppendText([]byte{}) }

// UnmarshalText implements [encoding.TextUnmarshaler] with Parse. The empty text is the zero Tuple.
func (t *Tuple) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*t = Tuple{}
		return nil
	}
	parsed, err := Parse(string(text))
	if err == nil {
		*t = parsed
	}
	return err
}

// String returns k in the form of a Tuple without a source port: "192.0.2.1->198.51.100.7:443". It returns "invalid
// Key" for the zero Key.
func (k Key) String() string {
	if k == (Key{}) {
		return "invalid Key"
	}
	b := append(k.Src().AppendTo(make([]byte, 0, 64)), arrow...)
	return string(k.Dst().AppendTo(b))
}
