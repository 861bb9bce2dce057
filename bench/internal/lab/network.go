//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/internal/netns"
)

// The kinds of a Network.
const (
	Loopback = "lo"   // client and server are in one network namespace
	Veth     = "veth" // the server is in a second network namespace, at the other end of a pair of interfaces
)

// TimeWaitBuckets is net.ipv4.tcp_max_tw_buckets in a Network. It is more than a run needs, so the kernel cuts no
// TIME_WAIT short. By default the limit depends on the memory of the host.
const TimeWaitBuckets = 1_000_000

// Network is a network namespace with a server in a process of its own.
type Network struct {
	Source       netip.Addr       // every dial leaves from it, whether the dialer names it or not
	Destinations []netip.AddrPort // the server's

	server *Process
}

var (
	near = map[string]netip.Prefix{
		Loopback: netip.MustParsePrefix("127.0.0.1/8"),
		Veth:     netip.MustParsePrefix("10.9.0.1/24"),
	}
	far = map[string]netip.Prefix{
		Loopback: netip.MustParsePrefix("127.0.1.1/8"),
		Veth:     netip.MustParsePrefix("10.9.0.2/24"),
	}
)

// The interfaces at the two ends of a Veth.
const nearEnd, farEnd = "near", "far"

// firstPort is the first port of the server. It is below every range of local ports.
const firstPort = 801

// Open sets up the network namespace of this process and starts the server. The process must have started with
// [netns.Private]. The kind is Loopback or Veth. A sysctl has the form "ipv4/tcp_tw_reuse=0".
func Open(kind string, s Service, sysctls ...string) (*Network, error) {
	if _, ok := near[kind]; !ok {
		return nil, fmt.Errorf("no network has this name: use %s or %s (%q)", Loopback, Veth, kind)
	}
	if err := netns.Up(); err != nil {
		return nil, err
	}
	if err := set(append(sysctls, common...)...); err != nil {
		return nil, err
	}
	attr := &syscall.SysProcAttr{}
	if kind == Veth {
		attr.Cloneflags = unix.CLONE_NEWNET
	}
	server, err := Start(attr, ServerRole)
	if err != nil {
		return nil, err
	}
	n := &Network{Source: near[kind].Addr(), server: server}
	for i := range s.Destinations {
		n.Destinations = append(n.Destinations, netip.AddrPortFrom(far[kind].Addr(), uint16(firstPort+i)))
	}
	if kind == Veth {
		pid := strconv.Itoa(server.cmd.Process.Pid)
		err = ip("link add " + nearEnd + " type veth peer name " + farEnd + " netns " + pid)
		if err == nil {
			err = addTo(nearEnd, near[kind])
		}
	}
	if err == nil {
		s.Network = kind
		err = server.Ask(s, new(struct{}))
	}
	if err == nil {
		err = n.await()
	}
	if err != nil {
		server.Stop()
		return nil, fmt.Errorf("cannot set up the network: %w (%s)", err, kind)
	}
	return n, nil
}

// await waits until the server's network namespace answers. New interfaces lose packets at first, and TCP sends them
// again after a second. It dials a port on which nothing listens, because that leaves no TIME_WAIT.
func (n *Network) await() error {
	c, err := net.Dial("tcp", netip.AddrPortFrom(n.Destinations[0].Addr(), firstPort-1).String())
	if err == nil {
		return errors.Join(fmt.Errorf("a program listens below the server's ports (%v)", c.RemoteAddr()), c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return nil
}

// Close stops the server.
func (n *Network) Close() { n.server.Stop() }

// common are the sysctls of both network namespaces.
var common = []string{"core/somaxconn=65535", fmt.Sprint("ipv4/tcp_max_tw_buckets=", TimeWaitBuckets)}

func set(sysctls ...string) error {
	for _, s := range sysctls {
		name, value, _ := strings.Cut(s, "=")
		if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
			return fmt.Errorf("cannot set a sysctl: %w (%s)", err, s)
		}
	}
	return nil
}

// addTo gives an interface an address and brings it up.
func addTo(device string, prefix netip.Prefix) error {
	if err := ip("addr add " + prefix.String() + " dev " + device); err != nil {
		return err
	}
	return ip("link set " + device + " up")
}

// ip runs the ip command of iproute2.
func ip(args string) error {
	if text, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip failed: %w: %s (ip %s)", err, text, args)
	}
	return nil
}
