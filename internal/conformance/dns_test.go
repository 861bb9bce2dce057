package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

var theAnswer = netip.MustParseAddr("192.0.2.7")

// serveDNS starts three servers, at one port of three addresses, until the test ends. A question by the given protocol
// passes the gate before the server answers it. A question by the other protocol gets a truncated answer, so that the
// client asks again by TCP.
func serveDNS(t *testing.T, protocol sockdiag.Protocol, g *gate) (at []netip.AddrPort) {
	t.Helper()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		answer := new(dns.Msg).SetReply(question)
		_, datagram := w.LocalAddr().(*net.UDPAddr)
		if datagram == (protocol == sockdiag.UDP) {
			g.pass()
			answer.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: question.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
				A:   theAnswer.AsSlice(),
			}}
		} else {
			answer.Truncated = true
		}
		w.WriteMsg(answer)
	})
	for i := range servers {
		address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + i)}), 53)
		l, err := net.Listen("tcp", address.String())
		require.NoError(t, err)
		pc, err := net.ListenPacket("udp", address.String())
		require.NoError(t, err)
		var serving sync.WaitGroup
		for _, s := range []*dns.Server{{Listener: l, Handler: handler}, {PacketConn: pc, Handler: handler}} {
			ready := make(chan struct{})
			s.NotifyStartedFunc = func() { close(ready) }
			serving.Go(func() { s.ActivateAndServe() })
			<-ready
			t.Cleanup(func() { s.Shutdown() })
		}
		at = append(at, address)
	}
	t.Cleanup(g.open) // before the servers shut down, because they wait for their handlers
	return at
}

var protocols = map[string]sockdiag.Protocol{"udp": sockdiag.UDP, "tcp": sockdiag.TCP}

// net.Resolver with its Dial asks in a datagram, and over TCP if the answer is too long for one.
func TestResolver(t *testing.T) {
	for network, protocol := range protocols {
		t.Run(network, func(t *testing.T) {
			if !netns.Isolate(t) {
				return
			}
			g := newGate(t)
			at := serveDNS(t, protocol, g)
			d := newDialer()
			c := forEach(at, func(server netip.AddrPort, _ int) error {
				r := &net.Resolver{PreferGo: true, Dial: d.DialContext}
				dial := r.Dial
				r.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) { // not to the host's server
					return dial(ctx, network, server.String())
				}
				ips, err := r.LookupNetIP(t.Context(), "ip4", "there.test.")
				if err == nil && (len(ips) != 1 || ips[0].Unmap() != theAnswer) {
					err = fmt.Errorf("the answer is %v", ips)
				}
				return err
			})
			g.await(t, c)
			requireShared(t, protocol, at)
			g.open()
			c.wait(t)
			requireNothingHeld(t, d)
		})
	}
}

// miekg/dns with ExchangeWithConn sends datagrams on a net.PacketConn, and messages after their length on others.
func TestDNSClient(t *testing.T) {
	for network, protocol := range protocols {
		t.Run(network, func(t *testing.T) {
			if !netns.Isolate(t) {
				return
			}
			g := newGate(t)
			at := serveDNS(t, protocol, g)
			d := newDialer()
			c := forEach(at, func(server netip.AddrPort, _ int) error {
				address := server.String()
				conn, err := d.Dial(network, address)
				if err != nil {
					return err
				}
				client := &dns.Client{Timeout: soon}
				question := theQuestion()
				answer, _, err := client.ExchangeWithConn(question, &dns.Conn{Conn: conn})
				return errors.Join(isTheAnswer(answer, err), conn.Close())
			})
			g.await(t, c)
			requireShared(t, protocol, at)
			g.open()
			c.wait(t)
			requireNothingHeld(t, d)
		})
	}
}

// miekg/dns with Client.Dialer uses the *net.Dialer of a Tracker. It passes datagrams through, from ports that the
// kernel chooses.
func TestDNSClientWithNetDialer(t *testing.T) {
	for network, protocol := range protocols {
		t.Run(network, func(t *testing.T) {
			if !netns.Isolate(t) {
				return
			}
			g := newGate(t)
			at := serveDNS(t, protocol, g)
			d, tracker := newDialer(), newTracker(t)
			nd, err := tracker.NetDialer(d)
			require.NoError(t, err)
			client := &dns.Client{Net: network, Timeout: soon}
			client.Dialer = nd
			c := forEach(at, func(server netip.AddrPort, _ int) error {
				answer, _, err := client.Exchange(theQuestion(), server.String())
				return isTheAnswer(answer, err)
			})
			g.await(t, c)
			if protocol == sockdiag.TCP {
				requireShared(t, protocol, at)
			} else {
				require.Zero(t, d.UDP.Stats().InUse)
			}
			g.open()
			c.wait(t)
			requireNothingHeld(t, d)
		})
	}
}

func theQuestion() *dns.Msg { return new(dns.Msg).SetQuestion("there.test.", dns.TypeA) }

func isTheAnswer(answer *dns.Msg, err error) error {
	if err == nil && (len(answer.Answer) != 1 || !answer.Answer[0].(*dns.A).A.Equal(theAnswer.AsSlice())) {
		err = fmt.Errorf("the answer is %v", answer)
	}
	return err
}
