package dialer_test

import (
	"bufio"
	"encoding/json"
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
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// dialing tells one of several processes what to do: it dials the remotes in turn, until a dial fails or Most times,
// and holds all connections until its input ends.
type dialing struct {
	Network string
	Remotes []netip.AddrPort
	Ports   alloc.Set
	Sources []netip.Prefix
	Shared  bool // SharedUDP
	Stock   bool // with net.Dialer
	Most    int  // 0: no limit
	Ask     bool // each connection asks its remote, an echoUDP, for its address
}

func (p dialing) String() string {
	text, _ := json.Marshal(p)
	return string(text)
}

// asProcess is the environment variable with the dialing of a process.
const asProcess = "EPHEMERA_DIALING_PROCESS"

// TestProcess is not a test. It is the code of a process: it prints the local ends of its connections, and why it
// ended.
func TestProcess(t *testing.T) {
	text := os.Getenv(asProcess)
	if text == "" {
		return
	}
	var p dialing
	require.NoError(t, json.Unmarshal([]byte(text), &p))
	pool := &tuple.Pool{Ports: p.Ports, Sources: p.Sources}
	dial := (&dialer.Dialer{TCP: pool, UDP: pool, SharedUDP: p.Shared}).Dial
	if p.Stock {
		dial = new(net.Dialer).Dial
	}
	out := bufio.NewWriter(os.Stdout)
	say := func(line ...any) { fmt.Fprintln(out, line...) }
	say("ready")
	out.Flush()
	input := bufio.NewReader(os.Stdin)
	input.ReadString('\n')
	var conns []net.Conn
	var end error
	for i := 0; end == nil && (p.Most == 0 || i < p.Most); i++ {
		remote := p.Remotes[i%len(p.Remotes)]
		c, err := dial(p.Network, remote.String())
		if err != nil {
			end = err
			break
		}
		say("from", c.LocalAddr())
		conns = append(conns, c)
		if p.Ask {
			end = ask(c, remote)
		}
	}
	for _, c := range conns {
		if p.Ask && end == nil {
			end = hearsNothing(c)
		}
	}
	switch {
	case end == nil:
		say("end")
	case errors.Is(end, tuple.ErrExhausted):
		say("end exhausted", end)
	default:
		say("end", end)
	}
	out.Flush()
	io.Copy(io.Discard, input)
	for _, c := range conns {
		c.Close()
	}
}

// ask returns an error if the answer comes from another remote or is meant for another socket.
func ask(c net.Conn, remote netip.AddrPort) error {
	c.SetDeadline(time.Now().Add(soon))
	if _, err := fmt.Fprint(c, c.LocalAddr()); err != nil {
		return err
	}
	b := make([]byte, 1500)
	n, err := c.Read(b)
	if want := fmt.Sprintf("%v %v", remote, c.LocalAddr()); err == nil && string(b[:n]) != want {
		err = fmt.Errorf("heard %q, not %q", b[:n], want)
	}
	return err
}

func hearsNothing(c net.Conn) error {
	c.SetReadDeadline(time.Unix(1, 0))
	b := make([]byte, 1500)
	n, err := c.Read(b)
	if err == nil {
		return fmt.Errorf("%v heard %q too", c.LocalAddr(), b[:n])
	}
	return nil
}

// run starts the processes at once. It returns how many connections there were from each local end, and how each
// process ended. All connections stay open until done is called.
func run(t *testing.T, what ...dialing) (from map[string]int, ends []string, done func()) {
	t.Helper()
	var inputs []io.Writer
	var outputs []*bufio.Scanner
	var stops []func()
	done = sync.OnceFunc(func() {
		for _, stop := range stops {
			stop()
		}
	})
	t.Cleanup(done)
	for _, p := range what {
		cmd := exec.Command(os.Args[0], "-test.run=^TestProcess$", "-test.v=false")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%v", asProcess, p))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		stops = append(stops, func() { in.Close(); io.Copy(io.Discard, out); cmd.Wait() })
		lines := bufio.NewScanner(out)
		require.True(t, lines.Scan())
		require.Equal(t, "ready", lines.Text())
		inputs, outputs = append(inputs, in), append(outputs, lines)
	}
	_, err := io.WriteString(io.MultiWriter(inputs...), "go\n")
	require.NoError(t, err)

	var mu sync.Mutex
	from, ends = map[string]int{}, make([]string, len(what))
	var reading sync.WaitGroup
	for i, lines := range outputs {
		reading.Go(func() {
			ends[i] = "ended early"
			for lines.Scan() {
				kind, rest, _ := strings.Cut(lines.Text(), " ")
				switch kind {
				case "from":
					mu.Lock()
					from[rest]++
					mu.Unlock()
				case "end":
					ends[i] = rest
					return
				}
			}
		})
	}
	reading.Wait()
	return from, ends, done
}

// everyPortOnce requires that the processes used each port once, and ended for no other reason than exhaustion.
func everyPortOnce(t *testing.T, ports int, what ...dialing) {
	t.Helper()
	from, ends, done := run(t, what...)
	defer done()
	for i, end := range ends {
		require.True(t, strings.HasPrefix(end, "exhausted "), "process %d: %s", i, end)
	}
	require.Len(t, from, ports)
	for end, times := range from {
		require.Equal(t, 1, times, end)
	}
}

// Four processes that do not know each other dial one destination from the same address and ports, in both lanes of
// TCP, until it is full. Each port is used exactly once, and no dial fails before the last port is in use.
func TestFourProcessesShareTheTCPTuples(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40199") {
		return
	}
	for i, sources := range [][]netip.Prefix{nil, {netip.MustParsePrefix("127.0.0.1/32")}} {
		to := listen(t, "tcp", fmt.Sprintf("127.0.0.1:%d", 9000+i))
		p := dialing{
			Network: "tcp", Remotes: []netip.AddrPort{to.addrPort()}, Sources: sources,
			Ports: alloc.MustParseSet("40000-40199,20000-20199"),
		}
		everyPortOnce(t, 400, p, p, p, p)
	}
}

// The kernel does not keep UDP sockets apart. A Dialer does or, with SharedUDP, slices of the ports do: each port is
// used exactly once.
func TestFourProcessesShareTheUDPTuples(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40199") {
		return
	}
	ports := alloc.RangeSet(40000, 40399)
	for i, sources := range [][]netip.Prefix{nil, {netip.MustParsePrefix("127.0.0.1/32")}} {
		for j, shared := range []bool{false, true} {
			to := echoUDP(t, fmt.Sprintf("127.0.0.1:%d", 9000+2*i+j))
			p := dialing{Network: "udp", Remotes: []netip.AddrPort{to}, Sources: sources, Ports: ports, Shared: shared}
			four := []dialing{p, p, p, p}
			if shared {
				for i := range four {
					four[i].Ports = ports.Slice(i, 4)
				}
			}
			everyPortOnce(t, 400, four...)
		}
	}
}

// 100,000 connected UDP sockets leave from one address, and each hears only its own peer. net.Dialer stops when each of
// the kernel's 28,232 ports has one socket.
func TestHundredThousandUDPSockets(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds, and the files of six processes")
	}
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=32768 60999") {
		return
	}
	const processes, each = 6, 16_700
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	if limit.Cur < each+100 {
		t.Skipf("a process may open %d files, and this takes %d", limit.Cur, each+100)
	}
	var peers []netip.AddrPort
	for i := range 4 {
		peers = append(peers, echoUDP(t, fmt.Sprintf("127.0.0.1:%d", 61000+i)))
	}
	stock := dialing{Network: "udp", Remotes: peers, Stock: true, Most: each}
	from, ends, done := run(t, stock, stock)
	require.Contains(t, ends[0]+ends[1], "connect: resource temporarily unavailable")
	require.Len(t, from, 28_232)
	done()

	var six []dialing
	ports := alloc.RangeSet(1024, 65535).Difference(alloc.RangeSet(61000, 61003))
	for i := range processes {
		six = append(six, dialing{
			Network: "udp", Remotes: peers, Ports: ports.Slice(i, processes), Most: each, Ask: true,
		})
	}
	from, ends, done = run(t, six...)
	for i, end := range ends {
		require.Empty(t, end, "process %d", i)
	}
	tuples := map[tuple.Tuple]bool{}
	q := sockdiag.Query{Protocol: sockdiag.UDP, States: sockdiag.StatesOf(sockdiag.Established)}
	for s, err := range q.All() {
		require.NoError(t, err)
		require.False(t, tuples[tuple.From(s.Local, s.Remote)], "%v->%v is there twice", s.Local, s.Remote)
		require.Equal(t, netip.AddrFrom4([4]byte{127, 0, 0, 1}), s.Local.Addr())
		tuples[tuple.From(s.Local, s.Remote)] = true
	}
	require.Len(t, tuples, processes*each)
	t.Logf("%d sockets on %d local ports", len(tuples), len(from))
	done()
}
