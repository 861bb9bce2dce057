package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestTable(t *testing.T) {
	r := result{
		kernel: tally{connections: 65_537, ports: 27_361, most: 4},
		source: v4,
		to: []netip.AddrPort{
			netip.MustParseAddrPort("127.0.1.1:31596"), netip.MustParseAddrPort("127.0.1.2:27048"),
			netip.MustParseAddrPort("127.0.1.3:4711"), netip.MustParseAddrPort("127.0.1.4:4712"),
		},
		took:   5 * time.Second,
		memory: 512 << 20,
		echoed: true,
	}
	require.Equal(t, strings.TrimLeft(`
connections                   65,537  ESTABLISHED in the kernel; each echoed
source addresses                   1  127.0.0.1
distinct local ports          27,361  of the 65,535 of one address
destinations                       4  127.0.1.1:31596 127.0.1.2:27048 …
most on one local port             4  connections
seconds                         5.00  until the last was open
connections/s                 13,107
memory                       512 MiB  8,191 bytes each: both ends and the kernel
`, "\n"), r.table())
}

func TestTableFitsATerminal(t *testing.T) {
	long := netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6666]:65535")
	r := result{
		kernel: tally{connections: 1_000_000_000, ports: 65_535, most: 100_000},
		source: long.Addr(),
		to:     []netip.AddrPort{netip.MustParseAddrPort("[::1]:1"), long, long},
		took:   time.Hour,
		memory: 1 << 40,
	}
	for line := range strings.Lines(r.table()) {
		require.LessOrEqual(t, utf8.RuneCountInString(line), 80+1, line)
	}
	require.Contains(t, r.table(), "no byte sent")
}

func TestTableLeavesOutMemoryThatTheHostDrowned(t *testing.T) {
	r := result{kernel: tally{connections: 10}, source: v4, took: time.Second, memory: -4096}
	require.NotContains(t, r.table(), "memory")
}

func TestProgressWithoutATerminalIsALineForEachTenth(t *testing.T) {
	var out strings.Builder
	p := newProgress(&out, 65_537)
	for open := 0; open <= 65_537; open += 100 {
		p.set(open)
	}
	p.set(65_537)
	p.end()
	require.Equal(t, 10, strings.Count(out.String(), "\n"), out.String())
	require.Contains(t, out.String(), "65,537 connections open (100 %)")
	require.NotContains(t, out.String(), "\r")
	require.NotContains(t, out.String(), "\x1b")
}

func TestVerdictIsTheKernels(t *testing.T) {
	b := beyondCmd{Connections: 65_537}
	require.NoError(t, b.verdict(tally{connections: 65_537}, ""))
	for _, n := range []int{65_536, 65_538, 0} {
		err := b.verdict(tally{connections: n}, "")
		require.ErrorContains(t, err, fmt.Sprintf("the kernel counts %s as ESTABLISHED", comma(n)))
	}
	err := b.verdict(tally{connections: 28_232}, "bind: address already in use")
	require.ErrorContains(t, err, "stopped at 28,232 of the 65,537 connections asked for: bind: address already in use")
}
