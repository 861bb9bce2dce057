package tuple_test

import (
	"encoding"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/tuple"
)

var (
	_ encoding.TextAppender    = tuple.Tuple{}
	_ encoding.TextMarshaler   = tuple.Tuple{}
	_ encoding.TextUnmarshaler = (*tuple.Tuple)(nil)
)

var texts = []string{
	"192.0.2.1:49152->198.51.100.7:443",
	"0.0.0.0:1->198.51.100.7:65535",
	"[2001:db8::1]:49152->[2001:db8::2]:443",
	"[::]:49152->[::1]:443",
	"255.255.255.255:65535->255.255.255.255:65535",
	"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535->[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535",
}

func TestParseReadsWhatStringWrites(t *testing.T) {
	for _, s := range texts {
		u, err := tuple.Parse(s)
		require.NoError(t, err)
		require.Equal(t, s, u.String())
		from, to, _ := strings.Cut(s, "->")
		require.Equal(t, tuple.From(ap(from), ap(to)), u)
	}
	rng := seeded(t, 3, 1)
	for range 5000 {
		u := randomTuple(rng)
		got, err := tuple.Parse(u.String())
		if u.IsValid() {
			require.NoError(t, err)
			require.Equal(t, u, got)
		} else {
			require.Error(t, err, "%v is not valid", u)
		}
	}
}

func TestParseUnmaps(t *testing.T) {
	for _, s := range []string{
		"[::ffff:192.0.2.1]:49152->[::ffff:198.51.100.7]:443",
		"192.0.2.1:49152->[::ffff:198.51.100.7]:443",
		"[::ffff:c000:201]:49152->198.51.100.7:443",
	} {
		u, err := tuple.Parse(s)
		require.NoError(t, err)
		require.Equal(t, texts[0], u.String())
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	const (
		arrow       = "no -> between source and destination: "
		source      = "the source is not address:port or [address]:port: "
		destination = "the destination is not address:port or [address]:port: "
		families    = "source and destination are of different address families: "
		unspecified = "the destination is the unspecified address: "
	)
	for s, want := range map[string]string{
		"":                                         arrow,
		"192.0.2.1:49152":                          arrow,
		"192.0.2.1:49152-198.51.100.7:443":         arrow,
		"->":                                       source,
		"192.0.2.1:49152->":                        destination,
		"->198.51.100.7:443":                       source,
		"192.0.2.1->198.51.100.7:443":              source,
		"192.0.2.1:49152->198.51.100.7":            destination,
		"192.0.2.1:49152->198.51.100.7:65536":      destination,
		"192.0.2.1:49152->198.51.100.7:-1":         destination,
		"192.0.2.1:49152->example.com:443":         destination,
		"192.0.2.1:0->198.51.100.7:443":            "the source has port 0: ",
		"192.0.2.1:49152->198.51.100.7:0":          "the destination has port 0: ",
		"192.0.2.1:49152->0.0.0.0:443":             unspecified,
		"[::1]:49152->[::]:443":                    unspecified,
		"192.0.2.1:49152->[::ffff:0.0.0.0]:443":    unspecified,
		"192.0.2.1:49152->[2001:db8::2]:443":       families,
		"[2001:db8::1]:49152->198.51.100.7:443":    families,
		"[fe80::1%eth0]:1->[fe80::2]:2":            "the source has a zone, ",
		"[fe80::1]:1->[fe80::2%7]:2":               "the destination has a zone, ",
		"192.0.2.1:1->198.51.100.7:2->192.0.2.3:3": destination,
		" 192.0.2.1:1->198.51.100.7:2":             source,
		"192.0.2.1:1->198.51.100.7:2\n":            destination,
		"[fe80::1%a->b]:1->[fe80::2]:2":            source,
	} {
		u, err := tuple.Parse(s)
		require.ErrorContains(t, err, "tuple: parse: "+want, "%q", s)
		require.ErrorContains(t, err, fmt.Sprintf(": %q", s))
		require.Zero(t, u)
		require.Panics(t, func() { tuple.MustParse(s) })
	}
	require.NotPanics(t, func() { tuple.MustParse(texts[0]) })
}

func TestTextCodecRoundTripsAndAppends(t *testing.T) {
	for _, s := range texts {
		u := tuple.MustParse(s)
		text, err := u.MarshalText()
		require.NoError(t, err)
		require.Equal(t, s, string(text))
		text, err = u.AppendText([]byte("> "))
		require.NoError(t, err)
		require.Equal(t, "> "+s, string(text))
		var back tuple.Tuple
		require.NoError(t, back.UnmarshalText([]byte(s)))
		require.Equal(t, u, back)
	}
}

// The documentation of encoding.TextAppender requires this.
func TestMarshalTextIsAppendTextOfNothing(t *testing.T) {
	for _, u := range []tuple.Tuple{{}, tuple.MustParse(texts[0]), tuple.From(netip.AddrPort{}, web)} {
		marshaled, err := u.MarshalText()
		require.NoError(t, err)
		appended, err := u.AppendText(nil)
		require.NoError(t, err)
		require.Equal(t, string(marshaled), string(appended))
	}
}

func TestZeroTupleIsTheEmptyText(t *testing.T) {
	text, err := tuple.Tuple{}.MarshalText()
	require.NoError(t, err)
	require.Empty(t, text)
	require.NotNil(t, text)
	u := tuple.MustParse(texts[0])
	require.NoError(t, u.UnmarshalText(nil))
	require.Zero(t, u)
}

func TestUnmarshalTextLeavesTheTupleAsItWasOnError(t *testing.T) {
	u := tuple.MustParse(texts[0])
	require.Error(t, u.UnmarshalText([]byte("nonsense")))
	require.Equal(t, texts[0], u.String())
}

func TestJSON(t *testing.T) {
	type record struct {
		Tuple tuple.Tuple         `json:"tuple"`
		Left  tuple.Tuple         `json:"left,omitzero"`
		Bytes map[tuple.Tuple]int `json:"bytes"`
	}
	u, v := tuple.MustParse(texts[0]), tuple.MustParse(texts[2])
	in := record{Tuple: u, Bytes: map[tuple.Tuple]int{u: 1, v: 2}}
	text, err := json.Marshal(in)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"tuple": "192.0.2.1:49152->198.51.100.7:443",
		"bytes": {"192.0.2.1:49152->198.51.100.7:443": 1, "[2001:db8::1]:49152->[2001:db8::2]:443": 2}
	}`, string(text))
	var out record
	require.NoError(t, json.Unmarshal(text, &out))
	require.Equal(t, in, out)

	text, err = json.Marshal(record{})
	require.NoError(t, err)
	require.JSONEq(t, `{"tuple": "", "bytes": null}`, string(text))
	require.NoError(t, json.Unmarshal(text, &out))
	require.Zero(t, out.Tuple)
	require.Error(t, json.Unmarshal([]byte(`{"tuple": "192.0.2.1"}`), &out))
}

func TestKeyStringIsATupleWithoutSourcePort(t *testing.T) {
	require.Equal(t, "192.0.2.1->198.51.100.7:443", tuple.MustParse(texts[0]).Key().String())
	require.Equal(t, "2001:db8::1->[2001:db8::2]:443", tuple.MustParse(texts[2]).Key().String())
}
