package dialer_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/seccomp"
	"github.com/ephemera-go/ephemera/tuple"
)

// What varies from dial to dial stands in parentheses at the end of an error. Without them, all errors of one kind have
// the same text, so that logs can be grouped.
func TestErrorsOfOneKindHaveOneText(t *testing.T) {
	for kind, prepare := range map[string]func(t *testing.T) (d *dialer.Dialer, network, address string){
		"refused": func(*testing.T) (*dialer.Dialer, string, string) {
			return new(dialer.Dialer), "tcp", "127.0.0.1:9002"
		},
		"refused, from a source": func(*testing.T) (*dialer.Dialer, string, string) {
			return &dialer.Dialer{TCP: pool("1024-65535", "127.0.0.0/24")}, "tcp", "127.0.0.1:9002"
		},
		"timeout": func(t *testing.T) (*dialer.Dialer, string, string) {
			return &dialer.Dialer{NetDialer: &net.Dialer{Timeout: time.Millisecond}},
				"tcp", blackhole(t, "127.0.0.1:9001")
		},
		"exhausted": func(t *testing.T) (*dialer.Dialer, string, string) {
			d, to := &dialer.Dialer{TCP: pool("40000-40003")}, listen(t, "tcp", "127.0.0.1:9000")
			for range 2 {
				dial(t, &dialer.Dialer{TCP: pool("40002-40003")}, to.addr())
			}
			dial(t, d, to.addr())
			dial(t, d, to.addr())
			return d, "tcp", to.addr()
		},
		"exhausted, from a source": func(t *testing.T) (*dialer.Dialer, string, string) {
			to := listen(t, "tcp", "127.0.0.1:9000")
			for range 4 {
				dial(t, &dialer.Dialer{TCP: pool("40000-40003")}, to.addr())
			}
			return &dialer.Dialer{TCP: pool("40000-40003", "127.0.0.1/32")}, "tcp", to.addr()
		},
		"exhausted, after a wait": func(t *testing.T) (*dialer.Dialer, string, string) {
			d, to := &dialer.Dialer{TCP: pool("20000"), Wait: time.Millisecond}, listen(t, "tcp", "127.0.0.1:9000")
			dial(t, d, to.addr())
			return d, "tcp", to.addr()
		},
		"exhausted, UDP": func(t *testing.T) (*dialer.Dialer, string, string) {
			d, to := &dialer.Dialer{UDP: pool("40000")}, echoUDP(t, "127.0.0.1:9000")
			dialUDP(t, d, to.String())
			return d, "udp", to.String()
		},
		"quota": func(t *testing.T) (*dialer.Dialer, string, string) {
			d, to := &dialer.Dialer{TCP: pool("1024-65535")}, listen(t, "tcp", "127.0.0.1:9000")
			d.TCP.MaxTuples = 1
			dial(t, d, to.addr())
			return d, "tcp", to.addr()
		},
		"forbidden": func(t *testing.T) (*dialer.Dialer, string, string) {
			seccomp.Answer(t, unix.SYS_BIND, unix.EACCES)
			return &dialer.Dialer{TCP: pool("2000-2999", "127.0.0.1/32")}, "tcp", "127.0.0.1:9000"
		},
		"source missing": func(*testing.T) (*dialer.Dialer, string, string) {
			return &dialer.Dialer{TCP: pool("1024-65535", "192.0.2.0/24")}, "tcp", "127.0.0.1:9000"
		},
		"port asked for in use": func(t *testing.T) (*dialer.Dialer, string, string) {
			d, to := &dialer.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{Port: 20000}}},
				listen(t, "tcp", "127.0.0.1:9000")
			dial(t, d, to.addr())
			return d, "tcp", to.addr()
		},
	} {
		t.Run(kind, func(t *testing.T) {
			if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 60999") {
				return
			}
			d, network, address := prepare(t)
			texts := map[string]int{}
			for range 200 {
				_, err := d.DialContext(context.Background(), network, address)
				require.Error(t, err)
				require.NotContains(t, err.Error(), "\n")
				text, _, _ := strings.Cut(err.Error(), " (")
				texts[withoutSource(text, d.TCP)]++
				require.LessOrEqual(t, strings.Count(err.Error(), address), 1, "an address is named once: %v", err)
			}
			require.Len(t, texts, 1, "%v", texts)
		})
	}
}

// withoutSource removes the source address from a text if the pool has several, because package net puts it at the
// beginning.
func withoutSource(text string, p *tuple.Pool) string {
	from, rest, found := strings.Cut(text, "->")
	if !found || p == nil || len(p.Sources) == 0 || p.Sources[0].IsSingleIP() {
		return text
	}
	i := strings.LastIndex(from, " ")
	if end, err := netip.ParseAddrPort(from[i+1:]); err != nil || end.Port() != 0 {
		return text
	}
	return from[:i] + rest
}
