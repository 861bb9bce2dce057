package tuple_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// Config is a configuration of a Pool. Each of its fields has a text form.
type Config struct {
	Sources  tuple.Prefixes `json:"sources,omitzero"`
	Ports    alloc.Set      `json:"ports,omitzero"`
	Policy   tuple.Policy   `json:"policy,omitzero"`
	CoolDown tuple.CoolDown `json:"cool_down,omitzero"`
}

// Pool returns a new Pool with this configuration.
func (c Config) Pool() *tuple.Pool {
	return &tuple.Pool{Sources: c.Sources, Ports: c.Ports, Policy: c.Policy, CoolDown: c.CoolDown}
}

// A program reads its configuration from JSON, and flags override it. YAML packages that know
// encoding.TextUnmarshaler read the same texts.
func Example_configuration() {
	const text = `{"sources":"192.0.2.1,2001:db8::/64","ports":"1024-65535,!8080","cool_down":"active-close=30s"}`
	var config Config
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		fmt.Println(err)
		return
	}

	flags := flag.NewFlagSet("proxy", flag.ExitOnError)
	flags.TextVar(&config.Sources, "sources", config.Sources, "addresses and prefixes to send from")
	flags.TextVar(&config.Ports, "ports", config.Ports, "source ports")
	flags.TextVar(&config.Policy, "policy", config.Policy, "which source is next")
	flags.TextVar(&config.CoolDown, "cool-down", config.CoolDown, "cool-downs by ending")
	flags.Parse([]string{"-policy=least-used", "-cool-down=active-close=60s,reset=16s"})

	t, err := config.Pool().TryAcquire(netip.MustParseAddrPort("198.51.100.7:443"))
	fmt.Println(t.Src().Addr(), err)

	written, err := json.MarshalIndent(config, "", "  ")
	fmt.Println(string(written), err)
	// Output:
	// 192.0.2.1 <nil>
	// {
	//   "sources": "192.0.2.1/32,2001:db8::/64",
	//   "ports": "1024-8079,8081-65535",
	//   "policy": "least-used",
	//   "cool_down": "active-close=1m0s,reset=16s"
	// } <nil>
}
