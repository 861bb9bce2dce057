package alloc

import (
	"fmt"
	"strconv"
	"strings"
)

// none is the text of an empty set that is not the zero Set.
const none = "none"

// ParseSet parses a list of ports and port ranges, separated by commas. A range includes both ends. A range with a
// stride has its first port and every stride-th port after it. An item after ! is excluded, wherever it stands in the
// list:
//
//	1024-65535,!8080,!9000-9100
//	1027-65535/16
//
// Spaces around numbers and items are ignored. The empty string is the zero Set. The word "none" is an empty set that
// is not the zero Set. Without ! and /, the syntax is that of the Linux sysctl net.ipv4.ip_local_reserved_ports.
func ParseSet(s string) (Set, error) {
	switch strings.TrimSpace(s) {
	case "":
		return Set{}, nil
	case none:
		return newSet(newBits()), nil
	}
	in, out := newBits(), newBits()
	included := false
	for item := range strings.SplitSeq(s, ",") {
		item = strings.TrimSpace(item)
		bits, text := in, item
		if rest, excluded := strings.CutPrefix(item, "!"); excluded {
			bits, text = out, strings.TrimSpace(rest)
		} else {
			included = true
		}
		first, last, stride, err := parseRange(text)
		if err != nil {
			return Set{}, fmt.Errorf("alloc: invalid port set: %w: %q", err, s)
		}
		for port := uint(first); port <= uint(last); port += uint(stride) {
			bits.Set(port)
		}
	}
	if !included {
		return Set{}, fmt.Errorf("alloc: invalid port set: it only excludes ports: "+
			"add the ports to exclude them from, as in %q", "1024-65535,"+s)
	}
	return newSet(in.Difference(out)), nil
}

// MustParseSet is like ParseSet, but panics on an error. Use it for text that is known to be valid, such as a literal.
func MustParseSet(s string) Set {
	set, err := ParseSet(s)
	if err != nil {
		panic(err)
	}
	return set
}

func parseRange(s string) (first, last, stride uint16, err error) {
	s, by, hasStride := strings.Cut(s, "/")
	a, b, isRange := strings.Cut(s, "-")
	if first, err = parsePort(strings.TrimSpace(a)); err != nil {
		return 0, 0, 0, err
	}
	last = first
	if isRange {
		if last, err = parsePort(strings.TrimSpace(b)); err != nil {
			return 0, 0, 0, err
		}
	}
	if first > last {
		return 0, 0, 0, fmt.Errorf("a range begins after its end: write %d-%d instead", last, first)
	}
	if !hasStride {
		return first, last, 1, nil
	}
	n, err := strconv.ParseUint(strings.TrimSpace(by), 10, 16)
	if err != nil || n == 0 {
		return 0, 0, 0, fmt.Errorf("a stride must be a number from 1 to 65535, not %q", by)
	}
	return first, last, uint16(n), nil
}

func parsePort(s string) (uint16, error) {
	if s == "" {
		return 0, fmt.Errorf("a port number is missing")
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("a port must be a number from 1 to 65535, not %q", s)
		}
	}
	port, err := strconv.ParseUint(s, 10, 16)
	switch {
	case err != nil:
		return 0, fmt.Errorf("a port must be a number from 1 to 65535, not %s", s)
	case port == 0:
		return 0, fmt.Errorf("a port must be a number from 1 to 65535, not 0")
	}
	return uint16(port), nil
}

// String returns s in the syntax of ParseSet, such as "1024-8079,8081-65535". The text is canonical: single ports and
// ranges without a stride, in ascending order. An empty set is "none", and the zero Set is the empty string.
func (s Set) String() string {
	text, _ := s.AppendText(nil)
	return string(text)
}

// AppendText implements [encoding.TextAppender]: it appends what String returns.
func (s Set) AppendText(b []byte) ([]byte, error) {
	if !s.IsZero() && s.Len() == 0 {
		return append(b, none...), nil
	}
	bits, start := s.bits(), len(b)
	for first, ok := bits.NextSet(0); ok; {
		end, found := bits.NextClear(first)
		if !found {
			end = bits.Len()
		}
		if len(b) > start {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(first), 10)
		if end-first > 1 {
			b = append(b, '-')
			b = strconv.AppendUint(b, uint64(end-1), 10)
		}
		first, ok = bits.NextSet(end)
	}
	return b, nil
}

// MarshalText implements [encoding.TextMarshaler].
func (s Set) MarshalText() ([]byte, error) { return s.AppendText(nil) }

// UnmarshalText implements [encoding.TextUnmarshaler] with ParseSet.
func (s *Set) UnmarshalText(text []byte) error {
	set, err := ParseSet(string(text))
	if err == nil {
		*s = set
	}
	return err
}
