package dialer_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/tuple"
)

// Tuples that others have count in no quota. If another process has 40 of 50 tuples, a quota of 5 connections still
// allows 5, whether the kernel refused the tuples or Adopt found them.
func TestWhatOthersHoldUsesUpNoQuota(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	for i, first := range []int{40000, 20000} {
		to, udp := listen(t, "tcp", fmt.Sprint("127.0.0.1:", 9000+i)), echoUDP(t, fmt.Sprint("127.0.0.1:", 9000+i))
		others := fmt.Sprintf("%d-%d", first, first+39)
		theirs := &dialer.Dialer{TCP: pool(others), UDP: pool(others)}
		for range 40 {
			dial(t, theirs, to.addr())
			dialUDP(t, theirs, udp.String())
		}
		for name, set := range map[string]func(p *tuple.Pool){
			"MaxTuples":         func(p *tuple.Pool) { p.MaxTuples = 5 },
			"MaxPerDestination": func(p *tuple.Pool) { p.MaxPerDestination = 5 },
			"MaxPerOwner":       func(p *tuple.Pool) { p.MaxPerOwner = 5 },
		} {
			for _, adopts := range []bool{false, true} {
				for _, network := range []string{"tcp", "udp"} {
					t.Run(fmt.Sprintf("%d/%s/%s/adopts=%t", first, network, name, adopts), func(t *testing.T) {
						p := pool(fmt.Sprintf("%d-%d", first, first+49), "127.0.0.1/32")
						set(p)
						if adopts {
							_, err := dialer.Adopt(network, p)
							require.NoError(t, err)
							require.Equal(t, tuple.Stats{Taken: 40, Destinations: 1}, p.Stats())
						}
						d := &dialer.Dialer{TCP: p, UDP: p, Owner: "me"}
						for range 5 {
							if network == "tcp" {
								defer dial(t, d, to.addr()).Abort()
							} else {
								defer dialUDP(t, d, udp.String()).Close()
							}
						}
						_, err := d.Dial(network, to.addr())
						require.ErrorIs(t, err, tuple.ErrQuota)
						require.NotErrorIs(t, err, tuple.ErrExhausted)
						u := p.Usage(to.addrPort())
						require.Equal(t, 5, u.InUse)
						if name == "MaxPerOwner" {
							require.Equal(t, 45, u.Taken+u.Free)
						} else {
							require.Zero(t, u.Free, "an acquire finds nothing")
						}
						if adopts {
							require.Equal(t, 40, u.Taken)
						}
					})
				}
			}
		}
	}
}

// A tuple that others have is free for us as soon as they close their socket, and counts only from our use on.
func TestTupleOfOthersIsOursWhenTheyLetGo(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.ip_local_port_range=40000 40999") {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	for _, port := range []string{"40000", "20000"} {
		c := dial(t, &dialer.Dialer{TCP: pool(port)}, to.addr())
		p := pool(port)
		p.MaxTuples = 1
		d := &dialer.Dialer{TCP: p}
		_, err := d.Dial("tcp", to.addr())
		require.ErrorIs(t, err, tuple.ErrExhausted, "that others have it is not our quota")
		require.Equal(t, tuple.Stats{Taken: 1, Destinations: 1}, p.Stats())
		require.NoError(t, c.Abort())
		d.Wait = soon
		require.NoError(t, dial(t, d, to.addr()).Abort())
		require.Equal(t, tuple.Stats{}, p.Stats())
	}
}
