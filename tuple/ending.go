package tuple

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// Ending says how the use of a tuple ended, which decides how long the tuple cools down. Use ActiveClose if in doubt.
type Ending uint8

const (
	// ActiveClose means that this side closed the TCP connection first, so this side has TIME_WAIT.
	ActiveClose Ending = iota

	// PassiveClose means that the peer closed the TCP connection first, so the peer has TIME_WAIT.
	PassiveClose

	// Reset means that either side reset the TCP connection.
	Reset

	// NeverEstablished means that the TCP connection was refused or never answered.
	NeverEstablished

	// Datagram is an exchange of datagrams. Nothing on the wire says that it has ended.
	Datagram
)

// CoolDown says for each Ending how long a tuple cools down. A field that is 0 means its default, a negative one that
// the tuple is free at once. The defaults suit a host that owns its source addresses. For a host behind a NAT, and for
// a NAT, see AzureNAT and RFC6888.
//
// Package dialer has its own defaults, which follow the kernel: see dialer.TCPConn.Close.
type CoolDown struct {
	// ActiveClose is 60 seconds by default, the TIME_WAIT of Linux.
	ActiveClose time.Duration

	// PassiveClose is no time by default. The peer has TIME_WAIT, and may accept a new connection with the same tuple
	// (RFC 9293, 3.6.1; RFC 6191).
	PassiveClose time.Duration

	// Reset is 16 seconds by default, as for Azure's NAT. A reset leaves no state (RFC 9293), but nothing acknowledges
	// it. If it is lost, the peer still has the old connection, and a new one with the same tuple meets it.
	Reset time.Duration

	// NeverEstablished is no time by default, because nobody remembers the connection.
	NeverEstablished time.Duration

	// Datagram is no time by default. The host remembers nothing, and late datagrams come from the same peer.
	Datagram time.Duration
}

// AzureNAT returns the cool-downs for a host behind Azure's NAT gateway. They are the times after which the gateway
// uses a port again towards the same destination: 65 seconds after a TCP FIN from either side, 16 after a TCP RST, 30
// after a half-open TCP connection, and 65 for UDP (Microsoft's "Azure NAT Gateway resource", Port Reuse Timers).
func AzureNAT() CoolDown {
	return CoolDown{
		ActiveClose: 65 * time.Second, PassiveClose: 65 * time.Second, Reset: 16 * time.Second,
		NeverEstablished: 30 * time.Second, Datagram: 65 * time.Second,
	}
}

// RFC6888 returns the cool-downs of a carrier-grade NAT after REQ-8 of RFC 6888: a port gets no new mapping until 120
// seconds, one maximum segment lifetime, have passed since the last one ended, in whatever way. The exceptions that the
// RFC allows are not used.
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

// of returns how long a tuple cools down after an ending. A result of 0 or less means not at all.
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

// String returns the fields that are not zero, as UnmarshalText reads them: "active-close=1m0s,reset=-1ns". It returns
// the empty string for the zero CoolDown.
func (c CoolDown) String() string {
	var items []string
	for how, name := range endingNames {
		if d := *c.field(Ending(how)); d != 0 {
			items = append(items, name+"="+d.String())
		}
	}
	return strings.Join(items, ",")
}

// MarshalText implements [encoding.TextMarshaler]: it returns what String returns.
func (c CoolDown) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. The text is a list of endings and durations, such as
// "active-close=60s,reset=16s". Fields that it does not name become zero. The empty text is the zero CoolDown.
func (c *CoolDown) UnmarshalText(text []byte) error {
	var parsed CoolDown
	for item := range strings.SplitSeq(string(text), ",") {
		item = strings.TrimSpace(item)
		if item == "" && len(bytes.TrimSpace(text)) == 0 {
			break
		}
		name, value, found := strings.Cut(item, "=")
		if !found {
			return fmt.Errorf("tuple: parse CoolDown: want an ending and a duration, such as reset=16s: %q", item)
		}
		how, err := endingNames.parse("Ending", name)
		if err != nil {
			return err
		}
		d, err := time.ParseDuration(strings.TrimSpace(value))
		if err != nil {
			return fmt.Errorf("tuple: parse CoolDown: want a duration after =, such as reset=16s: %q", item)
		}
		*parsed.field(Ending(how)) = d
	}
	*c = parsed
	return nil
}

// RetireAs is Retire with the cool-down of an Ending, as the CoolDown of p says.
func (p *Pool) RetireAs(t Tuple, how Ending) bool { return p.Retire(t, p.CoolDown.of(how)) }
