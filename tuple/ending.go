package tuple

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// Ending says how the use of a tuple ended: it decides how long the tuple must rest. Where in doubt it is ActiveClose.
type Ending uint8

const (
	// ActiveClose is a TCP connection that this side closed first: TIME_WAIT is here.
	ActiveClose Ending = iota

	// PassiveClose is one that the peer closed first: TIME_WAIT is there.
	PassiveClose

	// Reset is one that either side reset.
	Reset

	// NeverEstablished is one that was refused, or that nobody answered.
	NeverEstablished

	// Datagram is an exchange of datagrams: nothing on the wire says that it has ended.
	Datagram
)

// CoolDown says for each Ending how long a tuple rests after it. If negative, it is free at once. The zero value of
// each field is the default, which suits a host that owns its source addresses; behind a NAT see AzureNAT and
// RFC6888.
type CoolDown struct {
	// ActiveClose is 60 seconds by default: the TIME_WAIT of Linux.
	ActiveClose time.Duration

	// PassiveClose is none by default. TIME_WAIT is the peer's, and it may let a new connection of the same tuple in (RFC
	// 9293, 3.6.1; RFC 6191).
	PassiveClose time.Duration

	// Reset is 16 seconds by default, the figure of Azure's NAT (but none in package dialer, whose resets are on
	// purpose). By RFC 9293 a reset leaves no state, but nothing acknowledges it: if it is lost, the peer goes on with a
	// connection that a new one of the same tuple runs into.
	Reset time.Duration

	// NeverEstablished is none by default: there is nothing to be remembered.
	NeverEstablished time.Duration

	// Datagram is none by default: the host remembers nothing, and what comes late comes from the same peer.
	Datagram time.Duration
}

// AzureNAT returns what suits a host behind Azure's NAT gateway: for how long the gateway itself holds a port back
// from the same destination, by how the connection ended. That is 65 seconds for TCP FIN, whoever sent it, 16 for TCP
// RST, 30 for TCP half open, and 65 for UDP (Microsoft's "Azure NAT Gateway resource", Port Reuse Timers).
func AzureNAT() CoolDown {
	return CoolDown{
		ActiveClose: 65 * time.Second, PassiveClose: 65 * time.Second, Reset: 16 * time.Second,
		NeverEstablished: 30 * time.Second, Datagram: 65 * time.Second,
	}
}

// RFC6888 returns what REQ-8 of RFC 6888 asks of a carrier-grade NAT: a port is not given to another mapping until
// 120 seconds, one maximum segment lifetime, have passed, however the last one ended. It makes no use of the
// exceptions that the RFC allows.
func RFC6888() CoolDown {
	const d = 120 * time.Second
	return CoolDown{ActiveClose: d, PassiveClose: d, Reset: d, NeverEstablished: d, Datagram: d}
}

// field returns the field of an ending.
func (c *CoolDown) field(how Ending) *time.Duration {
	switch how {
	case PassiveClose:
		return &c.PassiveClose
	case Reset:
		return &c.Reset
	case NeverEstablished:
		return &c.NeverEstablished
	case Datagram:
		return &c.Datagram
	}
	return &c.ActiveClose
}

// of returns how long a tuple cools down after an ending; not positive if it does not.
func (c CoolDown) of(how Ending) time.Duration {
	d := *c.field(how)
	switch {
	case d != 0:
		return d
	case how == Reset:
		return 16 * time.Second
	case c.field(how) == &c.ActiveClose:
		return 60 * time.Second
	}
	return 0
}

// String returns the fields that are not zero, as UnmarshalText reads them: "active-close=1m0s,reset=-1ns". That of the
// zero CoolDown is the empty string.
func (c CoolDown) String() string {
	text, _ := c.AppendText(nil)
	return string(text)
}

// AppendText implements [encoding.TextAppender]: it appends what String returns.
func (c CoolDown) AppendText(b []byte) ([]byte, error) {
	start := len(b)
	for how := range endingNames {
		if d := *c.field(Ending(how)); d != 0 {
			if len(b) > start {
				b = append(b, ',')
			}
			b = append(append(append(b, endingNames[how]...), '='), d.String()...)
		}
	}
	return b, nil
}

// MarshalText implements [encoding.TextMarshaler].
func (c CoolDown) MarshalText() ([]byte, error) { return c.AppendText([]byte{}) }

// UnmarshalText implements [encoding.TextUnmarshaler]. The text is a list of endings and durations, such as
// "active-close=60s,reset=16s". What it does not name is zero, so that the empty text is the zero CoolDown. In JSON and
// YAML a CoolDown is therefore one string.
func (c *CoolDown) UnmarshalText(text []byte) error {
	var parsed CoolDown
	for item := range strings.SplitSeq(string(text), ",") {
		item = strings.TrimSpace(item)
		if item == "" && len(bytes.TrimSpace(text)) == 0 {
			break
		}
		name, value, found := strings.Cut(item, "=")
		if !found {
			return fmt.Errorf("tuple: a cool-down is an ending and a duration, such as active-close=60s: %q", item)
		}
		how, err := endingNames.parse("Ending", name)
		if err != nil {
			return err
		}
		d, err := time.ParseDuration(strings.TrimSpace(value))
		if err != nil {
			return fmt.Errorf("tuple: the cool-down of %s is no duration such as 60s: %q", endingNames[how], value)
		}
		*parsed.field(Ending(how)) = d
	}
	*c = parsed
	return nil
}

// RetireAs is Retire for as long as CoolDown says of this Ending.
func (p *Pool) RetireAs(t Tuple, how Ending) bool { return p.Retire(t, p.CoolDown.of(how)) }
