package dialer_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
	"github.com/ephemera-go/ephemera/tuple"
)

// predecessorVariable makes a process the predecessor: it dials what the variable names, and waits until it is killed.
const predecessorVariable = "EPHEMERA_PREDECESSOR"

// bePredecessor dials with a pool of these ports, prints its local addresses, and never returns.
func bePredecessor(t *testing.T, ports, address string) {
	d := &dialer.Dialer{TCP: pool(ports)}
	for range d.TCP.Ports.Len() {
		c := dial(t, d, address)
		fmt.Println("dialled from", c.LocalAddr())
	}
	fmt.Println("ready")
	os.Stdin.Read(make([]byte, 1))
}

// killedPredecessor returns to's ends of the connections of a process that was killed.
func killedPredecessor(t *testing.T, to *peer, ports string, n int) (accepted []*net.TCPConn) {
	self, err := os.Executable()
	require.NoError(t, err)
	name, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.Command(self, "-test.run=^"+name+"$")
	cmd.Env = append(os.Environ(), predecessorVariable+"="+ports+" "+to.addr())
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	said := ""
	for lines := bufio.NewScanner(stdout); lines.Scan() && lines.Text() != "ready"; {
		said += lines.Text() + "\n"
	}
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.Equal(t, n, strings.Count(said, "dialled"), said)
	for len(accepted) < n {
		a := <-to.conns
		if strings.Contains(said, "dialled from "+a.RemoteAddr().String()+"\n") {
			accepted = append(accepted, a)
			t.Cleanup(func() { a.Close() })
		}
	}
	slices.SortFunc(accepted, func(a, b *net.TCPConn) int {
		return a.RemoteAddr().(*net.TCPAddr).AddrPort().Compare(b.RemoteAddr().(*net.TCPAddr).AddrPort())
	})
	return accepted
}

// A process is killed. Its successor never gets a tuple that is in TIME_WAIT or has an open socket, although the kernel
// would allow it in the bind lane.
func TestSuccessorGetsNoTupleThatIsNotOver(t *testing.T) {
	if ports, address, ok := strings.Cut(os.Getenv(predecessorVariable), " "); ok {
		bePredecessor(t, ports, address)
		return
	}
	// A late RST would end TIME_WAIT (RFC 1337). That happens on a slow machine that sends a FIN twice.
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999",
		"net.ipv4.tcp_rfc1337=1", "net.ipv4.tcp_tw_reuse=0") {
		return
	}
	audited(t, func(t *testing.T, to *peer, p *tuple.Pool, port uint16) { // ten ports
		accepted := killedPredecessor(t, to, fmt.Sprintf("%d-%d", port, port+5), 6)
		for _, a := range accepted[:3] {
			require.NoError(t, a.Close())
			src := a.RemoteAddr().(*net.TCPAddr).AddrPort()
			awaitTimeWait(t, tuple.From(src, to.addrPort()), to)
		}
		t.Run("", func(t *testing.T) {
			var adopted *dialer.Adopted
			t.Cleanup(func() { // runs after the two other listeners are closed
				require.NoError(t, adopted.Update())
				require.Zero(t, adopted.Reserved())
				require.Zero(t, p.Stats().InUse)
				require.NoError(t, adopted.Update())
			})
			explicit(true)(t, to, port+6)
			explicit(true)(t, to, port+7)

			var err error
			adopted, err = dialer.Adopt("tcp", p)
			require.NoError(t, err)
			require.Equal(t, []int{5, 3}, []int{adopted.Reserved(), adopted.Retired()})
			require.Equal(t, tuple.Stats{Taken: 8, Destinations: 1}, p.Stats())
			requireAgreement(t, "tcp", p)
			requireDialable(t, p, to, port+8, port+9)

			require.NoError(t, adopted.Update())
			require.Equal(t, []int{5, 3}, []int{adopted.Reserved(), adopted.Retired()}, "nothing has changed")
			for _, a := range accepted[3:5] {
				require.NoError(t, a.Close())
				awaitTimeWait(t, tuple.From(a.RemoteAddr().(*net.TCPAddr).AddrPort(), to.addrPort()), to)
			}
			require.NoError(t, accepted[5].SetLinger(0))
			require.NoError(t, accepted[5].Close()) // a reset leaves nothing
			require.NoError(t, adopted.Update())
			require.Equal(t, []int{2, 5}, []int{adopted.Reserved(), adopted.Retired()})
			requireAgreement(t, "tcp", p)
			requireDialable(t, p, to, port+5, port+8, port+9)

			again, err := dialer.Adopt("tcp", p)
			require.NoError(t, err)
			require.Equal(t, []int{0, 0}, []int{again.Reserved(), again.Retired()}, "the pool has it all")
		})
	})
}

// requireDialable dials until no tuple is left, and requires that it used exactly these ports.
func requireDialable(t *testing.T, p *tuple.Pool, to *peer, ports ...uint16) {
	t.Helper()
	d := &dialer.Dialer{TCP: p}
	var got []uint16
	for {
		c, err := d.Dial("tcp", to.addr())
		if err != nil {
			var exhausted *tuple.ExhaustedError
			require.True(t, errors.As(err, &exhausted), err)
			require.Greater(t, exhausted.Next, shortestTimeWait(t, p)+3*time.Second,
				"the kernel takes longer than it says")
			break
		}
		defer reset(c.(*dialer.TCPConn))
		got = append(got, local(c).Port())
	}
	slices.Sort(got)
	require.Equal(t, ports, got)
}

// shortestTimeWait returns the shortest time that the kernel reports for the tuples that p has retired.
func shortestTimeWait(t *testing.T, p *tuple.Pool) time.Duration {
	shortest := time.Hour
	for s, err := range (sockdiag.Query{States: sockdiag.StatesOf(sockdiag.TimeWait)}).All() {
		require.NoError(t, err)
		if p.State(tuple.From(s.Local, s.Remote)) == tuple.Taken {
			shortest = min(shortest, s.Expires)
		}
	}
	require.Less(t, shortest, time.Hour)
	return shortest
}

// If several sockets with different addresses belong to one tuple, it is taken until the last of them is gone,
// TIME_WAIT included.
func TestAdoptHoldsATupleForAllSocketsOnIt(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	p := pool("20000-20001")
	from := func(ip string) *dialer.TCPConn {
		return dial(t, &dialer.Dialer{TCP: pool("20000", ip+"/32")}, to.addr())
	}
	rests, lives, last := from("127.0.0.1"), from("127.0.0.2"), from("127.0.0.3")
	a := to.accept(t, rests)
	require.NoError(t, rests.CloseWrite())
	require.NoError(t, a.Close())
	awaitTimeWait(t, rests.Tuple(), to)

	adopted, err := dialer.Adopt("tcp", p)
	require.NoError(t, err)
	require.Equal(t, tuple.Stats{Taken: 1, Destinations: 1}, p.Stats())
	requireAgreement(t, "tcp", p)
	reset(lives)
	require.NoError(t, adopted.Update())
	require.Equal(t, 1, adopted.Reserved())
	reset(last)
	require.NoError(t, adopted.Update())
	require.Equal(t, []int{0, 1}, []int{adopted.Reserved(), adopted.Retired()})
	require.Equal(t, tuple.Stats{Taken: 1, Destinations: 1}, p.Stats())
	requireAgreement(t, "tcp", p)
}

// Adopt takes the tuples of connections that a server accepted on a port of the pool, and of connected UDP sockets.
func TestAdoptReservesAcceptedConnectionsAndUDP(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	for _, ip := range []string{"127.0.0.1", "::1"} {
		to := listen(t, "tcp", net.JoinHostPort(ip, "20000"))
		c := dial(t, &dialer.Dialer{TCP: pool("30000")}, to.addr())
		to.accept(t, c)
		p := pool("20000-20009")
		adopted, err := dialer.Adopt("tcp", p)
		require.NoError(t, err)
		require.Equal(t, 1, adopted.Reserved())
		require.Equal(t, tuple.Taken, p.State(tuple.From(to.addrPort(), local(c))))

		u := dialUDP(t, &dialer.Dialer{UDP: pool("20000")}, net.JoinHostPort(ip, "9"))
		p = pool("20000-20009", netip.PrefixFrom(to.addrPort().Addr(), to.addrPort().Addr().BitLen()).String())
		adopted, err = dialer.Adopt("udp", p)
		require.NoError(t, err)
		require.Equal(t, []int{1, 0}, []int{adopted.Reserved(), adopted.Retired()})
		require.Equal(t, tuple.Taken, p.State(tuple.From(localUDP(u), netip.AddrPortFrom(to.addrPort().Addr(), 9))))
		require.NoError(t, u.Close())
		require.NoError(t, adopted.Update())
		require.Equal(t, tuple.Stats{}, p.Stats())
		reset(c)
	}
}

// If UDP sockets on a port close while the kernel lists them, the list omits others. Adopt, Update and Audit find those
// anyway, and tuples with a socket stay taken until it is gone.
func TestSocketsThatAWalkMisses(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	const n = 3000
	to := func(i int) string { return fmt.Sprintf("127.1.%d.%d:9", i/250, 1+i%250) }
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for range rounds {
		d := &dialer.Dialer{UDP: pool("20000")}
		var conns [n]net.Conn
		for i := range conns {
			c, err := d.Dial("udp", to(i))
			require.NoError(t, err)
			conns[i] = c
		}
		closed := make(chan struct{})
		go func() { // those in between
			defer close(closed)
			for i := n - 1; i >= 0; i-- {
				if i%2 == 1 {
					conns[i].Close()
				}
			}
		}()
		p := pool("20000", "127.0.0.1/32")
		adopted, err := dialer.Adopt("udp", p)
		require.NoError(t, err)
		for range 3 {
			require.NoError(t, adopted.Update())
			requireAgreement(t, "udp", d.UDP)
		}
		<-closed
		require.NoError(t, adopted.Update())
		require.Equal(t, n/2, adopted.Reserved())
		for i := 0; i < n; i += 2 {
			require.True(t, p.Contains(tuple.From(localUDP(conns[i]), netip.MustParseAddrPort(to(i)))))
			conns[i].Close()
		}
		require.NoError(t, adopted.Update())
		require.Equal(t, tuple.Stats{}, p.Stats())
	}
}
