package tuple_test

import (
	"encoding/json"
	"flag"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// settings is a configuration as users write one.
type settings struct {
	Sources           tuple.Prefixes
	Ports             alloc.Set
	Policy            tuple.Policy
	CoolDown          tuple.CoolDown
	MaxTuples         int
	MaxPerDestination int
	StickySeed        string
}

func TestConfigurationSurvivesJSON(t *testing.T) {
	for _, want := range []settings{
		{},
		{
			Sources: prefixes("192.0.2.1/32", "2001:db8::/64"), Ports: alloc.MustParseSet("1024-65535,!8080"),
			Policy: tuple.StickyOwner, CoolDown: tuple.CoolDown{ActiveClose: time.Minute, Reset: -1},
			MaxTuples: 5, StickySeed: "a",
		},
		{
			Ports:  alloc.MustParseSet("5000").Difference(alloc.MustParseSet("5000")),
			Policy: tuple.Random, CoolDown: tuple.RFC6888(),
		},
	} {
		text, err := json.Marshal(want)
		require.NoError(t, err)
		var got settings
		require.NoError(t, json.Unmarshal(text, &got))
		require.Equal(t, want.Ports.String(), got.Ports.String())
		require.Equal(t, want.Ports.IsZero(), got.Ports.IsZero(), "%s: an empty set is not all ports", text)
		got.Ports = want.Ports
		require.Equal(t, want, got)
	}
}

func TestPoolRefusesASetWithoutAPort(t *testing.T) {
	_, err := (&tuple.Pool{Ports: alloc.MustParseSet("none")}).TryAcquire(web)
	require.ErrorContains(t, err, "a set without a port")
}

func TestNamesAreTextBothWays(t *testing.T) {
	for p := tuple.RoundRobin; p <= tuple.Random; p++ {
		var got tuple.Policy
		require.NoError(t, got.UnmarshalText([]byte(p.String())))
		require.Equal(t, p, got)
	}
	for e := tuple.ActiveClose; e <= tuple.Datagram; e++ {
		var got tuple.Ending
		require.NoError(t, got.UnmarshalText([]byte(e.String())))
		require.Equal(t, e, got)
	}
	require.Equal(t, "Policy(9)", tuple.Policy(9).String())
	_, err := json.Marshal(tuple.Policy(9))
	require.ErrorContains(t, err, "tuple: unknown Policy: the last one is 4, random: 9")
	_, err = json.Marshal(tuple.Ending(5))
	require.ErrorContains(t, err, "tuple: unknown Ending: the last one is 4, datagram: 5")
	p, e := tuple.LeastUsed, tuple.Reset
	require.ErrorContains(t, p.UnmarshalText([]byte("rotate")), "round-robin, least-used")
	require.ErrorContains(t, e.UnmarshalText(nil), "active-close, passive-close")
	require.Equal(t, tuple.LeastUsed, p, "an unknown name changes nothing")
	require.NoError(t, p.UnmarshalText(nil))
	require.Equal(t, tuple.RoundRobin, p)
}

func TestCoolDownIsOneText(t *testing.T) {
	for text, want := range map[string]tuple.CoolDown{
		"":                                 {},
		"active-close=60s":                 {ActiveClose: time.Minute},
		" reset = 16s , datagram=1h,":      {},
		"reset=16s, active-close=2m":       {ActiveClose: 2 * time.Minute, Reset: 16 * time.Second},
		"never-established=-1ns":           {NeverEstablished: -1},
		"passive-close=1500ms,datagram=9s": {PassiveClose: 1500 * time.Millisecond, Datagram: 9 * time.Second},
	} {
		var got tuple.CoolDown
		err := got.UnmarshalText([]byte(text))
		if text != "" && text[len(text)-1] == ',' {
			require.Error(t, err, "an item is missing")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, want, got)
		var again tuple.CoolDown
		require.NoError(t, again.UnmarshalText([]byte(got.String())))
		require.Equal(t, got, again)
	}
	c := tuple.CoolDown{Reset: 1}
	for _, bad := range []string{"60s", "close=60s", "reset=60", "reset=", "=1s", ",reset=1s"} {
		require.Error(t, c.UnmarshalText([]byte(bad)), bad)
	}
	require.Equal(t, tuple.CoolDown{Reset: 1}, c, "a text that does not parse changes nothing")
}

func TestSourcesAreParsedFromAddressesAndPrefixes(t *testing.T) {
	var sources tuple.Prefixes
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.TextVar(&sources, "sources", tuple.Prefixes(nil), "")
	require.NoError(t, flags.Parse([]string{"-sources", "192.0.2.1, 198.51.100.0/24,2001:db8::1"}))
	require.Equal(t, tuple.Prefixes(prefixes("192.0.2.1/32", "198.51.100.0/24", "2001:db8::1/128")), sources)
	p := tuple.Pool{Sources: sources}
	require.Equal(t, netip.MustParseAddr("2001:db8::1"), acquire(t, &p, web6).Src().Addr())
	for _, bad := range []string{"192.0.2.1,", "a", "fe80::1%eth0", "192.0.2.0/33"} {
		require.Error(t, flags.Parse([]string{"-sources", bad}), bad)
	}
	require.Len(t, sources, 3)
}

func TestStickyChoicesSurviveARestartIfTheConfigurationHasASeed(t *testing.T) {
	choices := func(policy tuple.Policy, seed string) (list []netip.Addr) {
		p := &tuple.Pool{Sources: prefixes("10.0.0.0/16"), Policy: policy, StickySeed: seed}
		for i := range 50 {
			u := acquireFor(t, p, tuple.Request{Dst: dstN(i), Owner: "owner " + dstN(i).String()})
			list = append(list, u.Src().Addr())
		}
		return list
	}
	for _, policy := range []tuple.Policy{tuple.StickyDestination, tuple.StickyOwner} {
		require.Equal(t, choices(policy, "a"), choices(policy, "a"))
		require.NotEqual(t, choices(policy, "a"), choices(policy, "b"))
		require.NotEqual(t, choices(policy, ""), choices(policy, ""))
	}
}

// The zero values do not print as the address of some host.
func TestZeroTupleAndKeyPrintAsInvalid(t *testing.T) {
	require.Equal(t, "invalid Tuple", tuple.Tuple{}.String())
	require.Equal(t, "invalid Key", tuple.Key{}.String())
	require.False(t, tuple.Key{}.IsValid())
	require.True(t, tuple.KeyFrom(netip.MustParseAddr("0.0.0.0"), web).IsValid())
	require.False(t, tuple.KeyFrom(netip.MustParseAddr("::"), web).IsValid())
}
