package alloc_test

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
)

func TestParseSetReadsListsOfRanges(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "",
		" \t\n":                       "",
		"80":                          "80",
		"0080":                        "80",
		"1":                           "1",
		"65535":                       "65535",
		"1-65535":                     "1-65535",
		"443,80":                      "80,443",
		"80,80,80-80":                 "80",
		"1-3,4-6":                     "1-6",
		"1-5,3-9":                     "1-9",
		"1,2":                         "1-2",
		" 1024 - 65535 , ! 8080\n":    "1024-8079,8081-65535",
		"1024-65535,!8080,!9000-9100": "1024-8079,8081-8999,9101-65535",
		"!8080,1024-65535":            "1024-8079,8081-65535",
		"1-9,!1-9":                    "none",
		"1-9,!5,5":                    "1-4,6-9",
		"1-9,!20":                     "1-9",
		"63-64,127-128":               "63-64,127-128",
		"3-40/16":                     "3,19,35",
		"3-35/16,!19":                 "3,35",
		"1-20,!1-20/3":                "2-3,5-6,8-9,11-12,14-15,17-18,20",
		"7 / 5":                       "7",
		"65530-65535/65535":           "65530",
		"1-4/1":                       "1-4",
	} {
		s, err := alloc.ParseSet(text)
		require.NoError(t, err, "%q", text)
		require.Equal(t, want, s.String(), "%q", text)
		require.Equal(t, strings.TrimSpace(text) == "", s.IsZero(), "%q", text)
	}
}

func TestParseSetSaysWhatIsWrong(t *testing.T) {
	huge := strings.Repeat("9", 100)
	for text, trouble := range map[string]string{
		"9100-9000":     `a range begins after its end: write 9000-9100 instead: "9100-9000"`,
		"80,9 - 1":      "a range begins after its end: write 1-9 instead: ",
		"80,!9-1":       "a range begins after its end: write 1-9 instead: ",
		"0":             "a port must be a number from 1 to 65535, not 0",
		"0-10":          "a port must be a number from 1 to 65535, not 0",
		"00":            "a port must be a number from 1 to 65535, not 0",
		"80,!0":         "a port must be a number from 1 to 65535, not 0",
		"65536":         "a port must be a number from 1 to 65535, not 65536",
		"1-65536":       "a port must be a number from 1 to 65535, not 65536",
		huge:            "a port must be a number from 1 to 65535, not " + huge,
		"http":          `a port must be a number from 1 to 65535, not "http"`,
		"80 81":         `not "80 81"`,
		"80;81":         `not "80;81"`,
		"0x50":          `not "0x50"`,
		"8_0":           `not "8_0"`,
		"٨٠":            `not "٨٠"`,
		"80\x00":        `not "80\x00"`,
		"+5":            `not "+5"`,
		"1-2-3":         `not "2-3"`,
		"1--3":          `not "-3"`,
		"!!5":           `not "!5"`,
		"-5":            "a port number is missing",
		"5-":            "a port number is missing",
		"-":             "a port number is missing",
		"!":             "a port number is missing",
		",":             "a port number is missing",
		"80,":           "a port number is missing",
		",80":           "a port number is missing",
		"80,,81":        "a port number is missing",
		"5-9/0":         `a stride must be a number from 1 to 65535, not "0"`,
		"5-9/":          `a stride must be a number from 1 to 65535, not ""`,
		"5-9/x":         `a stride must be a number from 1 to 65535, not "x"`,
		"5-9/65536":     `a stride must be a number from 1 to 65535, not "65536"`,
		"9-5/2":         "a range begins after its end: write 5-9 instead: ",
		"/2":            "a port number is missing",
		"!8080":         `only excludes ports: add the ports to exclude them from, as in "1024-65535,!8080"`,
		"!8080,!90-100": `only excludes ports: add the ports to exclude them from, as in "1024-65535,!8080,!90-100"`,
	} {
		s, err := alloc.ParseSet(text)
		require.ErrorContains(t, err, trouble, "%q", text)
		require.ErrorContains(t, err, "alloc: invalid port set: ")
		require.ErrorContains(t, err, strings.Trim(strconv.Quote(text), `"`), "the error does not name the input")
		require.True(t, s.IsZero(), "%q", text)
		require.PanicsWithError(t, err.Error(), func() { alloc.MustParseSet(text) })
	}
}

// String is canonical: sets with the same ports have the same text, and ParseSet returns the set again.
func TestStringIsWhatParseSetReads(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 10
	}
	t.Log("seed: rand.NewPCG(2, 1)")
	rng := rand.New(rand.NewPCG(2, 1))
	for range rounds {
		s, want := randomSet(rng)
		again, err := alloc.ParseSet(s.String())
		require.NoError(t, err)
		requireSame(t, want, again, s.String())
		require.Equal(t, s.String(), again.String())

		if s.IsZero() {
			continue
		}
		detour := s.Slice(1, 3).Union(s.Slice(2, 3)).Union(s.Slice(0, 3))
		require.Equal(t, s.String(), detour.String())

		text, err := s.AppendText([]byte("1-5"))
		require.NoError(t, err)
		require.Equal(t, "1-5"+s.String(), string(text), "AppendText changed the text before it")
	}
	alternate := every(2, 1, 65535)
	require.Equal(t, 32767, strings.Count(alternate.String(), ","))
	require.Equal(t, alternate.String(), alloc.MustParseSet(alternate.String()).String())
}

func TestASetIsTextInJSON(t *testing.T) {
	type config struct {
		Ports alloc.Set `json:"ports,omitzero"`
	}
	for text, want := range map[string]config{
		`{}`:                               {},
		`{"ports":"80,8080-8081"}`:         {alloc.MustParseSet("8080-8081,80")},
		`{"ports":"1024-8079,8081-65535"}`: {alloc.MustParseSet("1024-65535,!8080")},
	} {
		out, err := json.Marshal(want)
		require.NoError(t, err)
		require.Equal(t, text, string(out))
		var got config
		require.NoError(t, json.Unmarshal([]byte(text), &got))
		require.Equal(t, want.Ports.String(), got.Ports.String())
		require.Equal(t, want.Ports.IsZero(), got.Ports.IsZero())
	}
	// An empty set is not the same as a set that is not set.
	out, err := json.Marshal(config{alloc.RangeSet(2, 1)})
	require.NoError(t, err)
	require.Equal(t, `{"ports":"none"}`, string(out))
	var none config
	require.NoError(t, json.Unmarshal(out, &none))
	require.True(t, !none.Ports.IsZero() && none.Ports.Len() == 0)

	got := config{alloc.RangeSet(7, 9)}
	require.ErrorContains(t, json.Unmarshal([]byte(`{"ports":"80-"}`), &got), `alloc: invalid port set: `)
	require.Error(t, json.Unmarshal([]byte(`{"ports":80}`), &got))
	require.Equal(t, "7-9", got.Ports.String(), "invalid text changed the set")
	require.NoError(t, json.Unmarshal([]byte(`{"ports":""}`), &got))
	require.True(t, got.Ports.IsZero())
}

func FuzzParseSet(f *testing.F) {
	for _, text := range []string{
		"", "80", "1024-65535,!8080,!9000-9100", "1-65535", "0", "65536", "9-1", "!80", "-5", "+5", "1-2-3", ",",
		" 1 - 2 ", "99999999999999999999", "1-9,!1-9", "\x00", "！80",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := alloc.ParseSet(text)
		if err != nil {
			require.ErrorContains(t, err, "alloc: invalid port set: ")
			require.ErrorContains(t, err, strings.Trim(strconv.Quote(text), `"`))
			require.True(t, s.IsZero())
			return
		}
		require.False(t, s.Contains(0))
		canonical := s.String()
		again, err := alloc.ParseSet(canonical)
		require.NoError(t, err)
		require.Equal(t, canonical, again.String())
		require.Equal(t, s.Len(), again.Len())
	})
}
