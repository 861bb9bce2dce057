package dialer_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// asProcess is the environment of a test that is run again as one of several processes: network, remote, ports, sources, and
// whether the Dialer is exclusive.
const asProcess = "EPHEMERA_DIALING_PROCESS"

// TestProcess is not a test: it is what a process of dialUntilFull does. It dials until it fails, says from which local ends and
// why, and holds all until its input ends.
func TestProcess(t *testing.T) {
	args := strings.Fields(os.Getenv(asProcess))
	if len(args) == 0 {
		return
	}
	network, remote, ports, source, exclusive := args[0], args[1], args[2], args[3], args[4] == "true"
	p := &tuple.Pool{Ports: alloc.MustParseSet(ports)}
	if source != "any" {
		p.Sources = []netip.Prefix{netip.MustParsePrefix(source)}
	}
	d := &dialer.Dialer{TCP: p, UDP: p, ExclusiveUDP: exclusive}
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(out, "ready")
	out.Flush()
	input := bufio.NewReader(os.Stdin)
	input.ReadString('\n')
	for {
		c, err := d.Dial(network, remote)
		if err != nil {
			fmt.Fprintln(out, "end", errors.Is(err, tuple.ErrExhausted), err)
			break
		}
		fmt.Fprintln(out, "from", c.LocalAddr())
		defer c.Close()
	}
	out.Flush()
	io.Copy(io.Discard, input)
}

// dialUntilFull has n processes dial remote until each fails, all at once, and returns from where they did, each local end as
// often as there was a connection from it. All connections are still open when the last process fails.
func dialUntilFull(t *testing.T, n int, network string, remote netip.AddrPort, ports func(i int) string, source string, exclusive bool) map[string]int {
	t.Helper()
	type process struct {
		in    io.Closer
		lines *bufio.Scanner
		cmd   *exec.Cmd
	}
	var all []process
	var begin []io.Writer
	for i := range n {
		cmd := exec.Command(os.Args[0], "-test.run=^TestProcess$", "-test.v=false")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %v %s %s %v", asProcess, network, remote, ports(i), source, exclusive))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { in.Close(); cmd.Wait() })
		lines := bufio.NewScanner(out)
		require.True(t, lines.Scan())
		require.Equal(t, "ready", lines.Text())
		all, begin = append(all, process{in, lines, cmd}), append(begin, in)
	}
	_, err := io.WriteString(io.MultiWriter(begin...), "go\n")
	require.NoError(t, err)

	var mu sync.Mutex
	from := map[string]int{}
	var reading sync.WaitGroup
	for i, p := range all {
		reading.Go(func() {
			for p.lines.Scan() {
				kind, rest, _ := strings.Cut(p.lines.Text(), " ")
				mu.Lock()
				switch kind {
				case "from":
					from[rest]++
				case "end":
					if !strings.HasPrefix(rest, "true ") {
						t.Errorf("process %d: %s", i, rest)
					}
					t.Logf("process %d: %s", i, strings.TrimPrefix(rest, "true "))
				}
				mu.Unlock()
				if kind == "end" {
					return
				}
			}
			t.Errorf("process %d ended early", i)
		})
	}
	reading.Wait()
	for _, p := range all {
		p.in.Close()
	}
	return from
}

// Four processes that know nothing of each other dial one destination from the same address and ports, TCP in both lanes, until
// it is full: each port is used exactly once, and none fails before the last port is taken.
func TestFourProcessesShareTheTCPTuples(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40199") {
		return
	}
	for i, source := range []string{"any", "127.0.0.1/32"} {
		to := listen(t, "tcp", fmt.Sprintf("127.0.0.1:%d", 9000+i))
		everyPortOnce(t, 400, dialUntilFull(t, 4, "tcp", to.addrPort(), func(int) string { return "40000-40199,20000-20199" }, source, false))
	}
}

// The kernel does not keep UDP sockets apart. Slices of the ports do, and so does ExclusiveUDP: each port is used exactly once.
func TestFourProcessesShareTheUDPTuples(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40199") {
		return
	}
	whole := alloc.RangeSet(40000, 40399)
	for i, c := range []struct {
		name, source string
		ports        func(i int) string
		exclusive    bool
	}{
		{"slices", "any", func(i int) string { return whole.Slice(i, 4).String() }, false},
		{"exclusive", "any", func(int) string { return whole.String() }, true},
		{"exclusive from a source", "127.0.0.1/32", func(int) string { return whole.String() }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			to := echoUDP(t, fmt.Sprintf("127.0.0.1:%d", 9000+i))
			everyPortOnce(t, 400, dialUntilFull(t, 4, "udp", to, c.ports, c.source, c.exclusive))
		})
	}
}

// ExclusiveUDP passes over what a program without it has, and only that.
func TestExclusiveUDPSeesOtherPrograms(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	for i, family := range []struct{ ip, source string }{{"127.0.0.1", ""}, {"127.0.0.1", "127.0.0.1/32"}, {"::1", ""}, {"::1", "::1/128"}} {
		to := echoUDP(t, net.JoinHostPort(family.ip, fmt.Sprint(9000+i)))
		other := echoUDP(t, net.JoinHostPort(family.ip, fmt.Sprint(9010+i)))
		p := pool("40000-40003")
		if family.source != "" {
			p = pool("40000-40003", family.source)
		}
		foreign := &dialer.Dialer{UDP: pool("40001-40002")}
		dialUDP(t, foreign, to.String())
		dialUDP(t, foreign, to.String())
		d := &dialer.Dialer{UDP: p, ExclusiveUDP: true}
		got := map[uint16]bool{localUDP(dialUDP(t, d, to.String())).Port(): true, localUDP(dialUDP(t, d, to.String())).Port(): true}
		require.Equal(t, map[uint16]bool{40000: true, 40003: true}, got)
		_, err := d.Dial("udp", to.String())
		require.ErrorIs(t, err, tuple.ErrExhausted)
		require.ErrorContains(t, err, "(2 in use, 2 cooling down")
		for range 4 {
			dialUDP(t, d, other.String())
		}
	}
}

func everyPortOnce(t *testing.T, ports int, from map[string]int) {
	t.Helper()
	require.Len(t, from, ports)
	for end, times := range from {
		require.Equal(t, 1, times, end)
	}
}
