package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
)

// aThousandPorts keeps the runs small: 1,001 connections are more than there are ports.
const aThousandPorts = "net.ipv4.ip_local_port_range=40000 40999"

func TestMoreConnectionsThanPorts(t *testing.T) {
	if !netns.Isolate(t, aThousandPorts) {
		return
	}
	for _, source := range []string{"127.0.0.1", "127.0.0.9", "127.0.1.1"} {
		r := start(t, "-n", "2000", "--source", source)
		require.Equal(t, 0, r.wait(), &r.stderr)
		require.Equal(t, "2,000", r.figure(t, "connections"))
		require.Equal(t, "1", r.figure(t, "source addresses"))
		require.Equal(t, "3", r.figure(t, "destinations"))
		ports, err := strconv.Atoi(strings.ReplaceAll(r.figure(t, "distinct local ports"), ",", ""))
		require.NoError(t, err)
		require.LessOrEqual(t, ports, 1000)
		require.Contains(t, r.stdout.String(), "each echoed")
		nothingIsLeft(t)
	}
}

func TestTheFileLimitDividesTheWork(t *testing.T) {
	if !netns.Isolate(t, aThousandPorts) {
		return
	}
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 400, Max: 400}))
	r := start(t, "-n", "2000")
	require.Equal(t, 0, r.wait(), &r.stderr)
	require.Contains(t, r.stderr.String(),
		"Processes: 7 to listen, 7 to dial; each may open 400 files (RLIMIT_NOFILE).")
	require.Equal(t, "2,000", r.figure(t, "connections"))
	nothingIsLeft(t)
}

func TestTheStockDialerStopsAtThePorts(t *testing.T) {
	if !netns.Isolate(t, aThousandPorts) {
		return
	}
	r := start(t, "-n", "2000", "--stock")
	require.Equal(t, 1, r.wait())
	require.Equal(t, "1,000", r.figure(t, "connections"))
	require.Equal(t, "1,000", r.figure(t, "distinct local ports"))
	require.Equal(t, "1", r.figure(t, "most on one local port"))
	require.Contains(t, r.stderr.String(), "net.Dialer stopped at 1,000 of the 2,000 connections asked for")
	require.Contains(t, r.stderr.String(), "address already in use")
	nothingIsLeft(t)

	r = start(t, "-n", "900", "--stock")
	require.Equal(t, 0, r.wait(), &r.stderr)
}

func TestListenersOfOthersAreSentNothing(t *testing.T) {
	if !netns.Isolate(t, aThousandPorts) {
		return
	}
	a, b := accept(t, "127.0.2.1:80"), accept(t, "127.0.2.2:80")
	r := start(t, "-n", "1500", "--to", "127.0.2.1:80,127.0.2.2:80")
	require.Equal(t, 0, r.wait(), &r.stderr)
	require.Equal(t, "1,500", r.figure(t, "connections"))
	require.Contains(t, r.stdout.String(), "no byte sent")
	require.Zero(t, a.received()+b.received())
	nothingIsLeft(t)
}

func TestARunThatCannotBeProvedIsRefused(t *testing.T) {
	if !netns.Isolate(t, aThousandPorts) {
		return
	}
	accept(t, "127.0.2.1:80")

	r := start(t, "-n", "2000", "--to", "127.0.2.1:80")
	require.Equal(t, 1, r.wait())
	require.Contains(t, r.stderr.String(), "name 2 listeners")

	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, Control: resetOnClose}
	conn, err := d.Dial("tcp", "127.0.2.1:80")
	require.NoError(t, err)
	r = start(t, "-n", "10", "--to", "127.0.2.1:80")
	require.Equal(t, 1, r.wait())
	require.Contains(t, r.stderr.String(), "dial from another --source (1 connection from 127.0.0.1)")
	require.NoError(t, conn.Close())

	r = start(t, "-n", "10", "--to", "127.0.2.1:81")
	require.Equal(t, 1, r.wait())
	require.Contains(t, r.stderr.String(), "connection refused")

	r = start(t, "-n", "10", "--source", "192.0.2.1")
	require.Equal(t, 1, r.wait())
	require.Contains(t, r.stderr.String(), "cannot assign requested address")

	r = start(t, "-n", "10", "--source", "0.0.0.0")
	require.Equal(t, 1, r.wait())
	require.Contains(t, r.stderr.String(), "--source is not one address")
	require.Empty(t, r.stdout.String())
	nothingIsLeft(t)
}

func TestNothingIsLeftWhateverEndsARun(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	const dialing, holding = "(10 %)", "Holding"
	for _, tc := range []struct {
		moment string
		end    func(*testing.T, *run)
		status int
		say    string
	}{
		{"Opening", send(syscall.SIGINT), 1, "interrupted"},
		{dialing, send(syscall.SIGINT), 1, "interrupted"},
		{dialing, send(syscall.SIGTERM), 1, "interrupted"},
		{dialing, send(syscall.SIGKILL), -1, ""},
		{dialing, ctrlC, 1, "interrupted"},
		{dialing, killWorker, 1, "ended early"},
		{holding, send(syscall.SIGINT), 0, ""}, // the kernel has confirmed the count
		{holding, send(syscall.SIGKILL), -1, ""},
	} {
		n := "40000"
		if tc.moment == holding {
			n = "2000"
		}
		r := start(t, "-n", n, "--hold", "10m")
		r.stderr.await(t, tc.moment)
		tc.end(t, r)
		require.Equal(t, tc.status, r.wait(), &r.stderr)
		require.Contains(t, r.stderr.String(), tc.say)
		if tc.status != 0 && tc.moment != holding {
			require.Empty(t, r.stdout.String())
		}
		if tc.status == -1 {
			// The parent did not wait for its workers.
			require.Eventually(t, func() bool { return len(workers(t)) == 0 }, 30*time.Second, 10*time.Millisecond)
		}
		nothingIsLeft(t)
	}
}

func TestTheKernelIsCountedByDestination(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	var d dialer.Dialer
	d.NetDialer = &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 5), Port: 40_000}, Control: resetOnClose}
	var to []netip.AddrPort
	for i := range 4 {
		l := accept(t, fmt.Sprintf("127.0.2.%d:80", i+1))
		conn, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		if i < 3 {
			to = append(to, l.Addr().(*net.TCPAddr).AddrPort())
		}
	}
	got, err := kernelCount(netip.MustParseAddr("127.0.0.5"), to)
	require.NoError(t, err)
	require.Equal(t, tally{connections: 3, ports: 1, most: 3}, got)

	got, err = kernelCount(netip.MustParseAddr("127.0.0.6"), to)
	require.NoError(t, err)
	require.Zero(t, got)
}

func TestAWorkerWithoutAParentSaysSo(t *testing.T) {
	for _, input := range []string{"{}", "what?"} {
		cmd := exec.Command(os.Args[0], "worker")
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "standard input")
	}
}
