package tuple

import (
	"fmt"
	"slices"
	"strings"
)

// names are the texts of the values of an enumeration, from 0 on. They are in lower case with hyphens, as is usual in
// configuration files and flags.
type names []string

func (n names) text(kind string, value uint8) string {
	if int(value) < len(n) {
		return n[value]
	}
	return fmt.Sprintf("%s(%d)", kind, value)
}

func (n names) marshal(kind string, value uint8) ([]byte, error) {
	if int(value) >= len(n) {
		return nil, fmt.Errorf("tuple: unknown %s: the last one is %d, %s: %d", kind, len(n)-1, n[len(n)-1], value)
	}
	return []byte(n[value]), nil
}

func (n names) parse(kind, text string) (uint8, error) {
	i := slices.Index(n, strings.TrimSpace(text))
	if i < 0 {
		return 0, fmt.Errorf("tuple: parse %s: want one of %s: %q", kind, strings.Join(n, ", "), text)
	}
	return uint8(i), nil
}

var (
	policyNames = names{"round-robin", "least-used", "sticky-destination", "sticky-owner", "random"}
	endingNames = names{"active-close", "passive-close", "reset", "never-established", "datagram"}
)

// String returns the name of p, such as "least-used".
func (p Policy) String() string { return policyNames.text("Policy", uint8(p)) }

// MarshalText implements [encoding.TextMarshaler]: it returns what String returns. It fails if p is not a policy.
func (p Policy) MarshalText() ([]byte, error) { return policyNames.marshal("Policy", uint8(p)) }

// UnmarshalText implements [encoding.TextUnmarshaler]. It reads what String returns. The empty text is RoundRobin.
func (p *Policy) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = RoundRobin
		return nil
	}
	value, err := policyNames.parse("Policy", string(text))
	if err == nil {
		*p = Policy(value)
	}
	return err
}

// String returns the name of e, such as "active-close".
func (e Ending) String() string { return endingNames.text("Ending", uint8(e)) }

// MarshalText implements [encoding.TextMarshaler]: it returns what String returns. It fails if e is not an ending.
func (e Ending) MarshalText() ([]byte, error) { return endingNames.marshal("Ending", uint8(e)) }

// UnmarshalText implements [encoding.TextUnmarshaler]. It reads what String returns.
func (e *Ending) UnmarshalText(text []byte) error {
	value, err := endingNames.parse("Ending", string(text))
	if err == nil {
		*e = Ending(value)
	}
	return err
}
