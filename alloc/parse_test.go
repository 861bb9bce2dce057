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
		"9100-9000":     "the range 9100-9000 is upside down: write 9000-9100",
		"80,9 - 1":      "upside down: write 1-9",
		"80,!9-1":       "upside down: write 1-9",
		"0":             "0 names no port",
		"0-10":          "0 names no port",
		"00":            "0 names no port",
		"80,!0":         "0 names no port",
		"65536":         "65536 is greater than the last port, 65535",
		"1-65536":       "65536 is greater than the last port, 65535",
		huge:            huge + " is greater than the last port, 65535",
		"http":          `"http" is not a port number`,
		"80 81":         `"80 81" is not a port number`,
		"80;81":         `"80;81" is not a port number`,
		"0x50":          `"0x50" is not a port number`,
		"8_0":           `"8_0" is not a port number`,
		"٨٠":            `"٨٠" is not a port number`,
		"80\x00":        `"80\x00" is not a port number`,
		"+5":            `"+5" is not a port number`,
		"1-2-3":         `"2-3" is not a port number`,
		"1--3":          `"-3" is not a port number`,
		"!!5":           `"!5" is not a port number`,
		"-5":            "a port is missing",
		"5-":            "a port is missing",
		"-":             "a port is missing",
		"!":             "a port is missing",
		",":             "a port is missing",
		"80,":           "a port is missing",
		",80":           "a port is missing",
		"80,,81":        "a port is missing",
		"5-9/0":         `the stride "0" is not a number from 1 to 65535`,
		"5-9/":          `the stride "" is not a number`,
		"5-9/x":         `the stride "x" is not a number`,
		"5-9/65536":     `the stride "65536" is not a number`,
		"9-5/2":         "the range 9-5 is upside down: write 5-9",
		"/2":            "a port is missing",
		"!8080":         `only leaves ports out: say out of which, as in "1024-65535,!8080"`,
		"!8080,!90-100": `only leaves ports out: say out of which, as in "1024-65535,!8080,!90-100"`,
	} {
		s, err := alloc.ParseSet(text)
		require.ErrorContains(t, err, trouble, "%q", text)
		require.ErrorContains(t, err, "alloc: port set "+strconv.Quote(text), "the error does not name the input")
		require.True(t, s.IsZero(), "%q", text)
		require.PanicsWithError(t, err.Error(), func() { alloc.MustParseSet(text) })
	}
}

// String is canonical: equal sets, however they came about, have equal text, and parsing it gives the set again.
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
		require.Equal(t, "1-5"+s.String(), string(text), "AppendText is to leave alone what it appends to")
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
	// A set that came out empty is not one that was not set.
	out, err := json.Marshal(config{alloc.RangeSet(2, 1)})
	require.NoError(t, err)
	require.Equal(t, `{"ports":"none"}`, string(out))
	var none config
	require.NoError(t, json.Unmarshal(out, &none))
	require.True(t, !none.Ports.IsZero() && none.Ports.Len() == 0)

	got := config{alloc.RangeSet(7, 9)}
	require.ErrorContains(t, json.Unmarshal([]byte(`{"ports":"80-"}`), &got), `alloc: port set "80-"`)
	require.Error(t, json.Unmarshal([]byte(`{"ports":80}`), &got))
	require.Equal(t, "7-9", got.Ports.String(), "text that is wrong changed the set")
	require.NoError(t, json.Unmarshal([]byte(`{"ports":""}`), &got))
	require.True(t, got.Ports.IsZero())
}

func FuzzParseSet(f *testing.F) {
	for _, text := range []string{
		"", "80", "1024-65535,!8080,!9000-9100", "1-65535", "0", "65536", "9-1", "!80", "-5", "+5", "1-2-3", ",", " 1 - 2 ",
		"99999999999999999999", "1-9,!1-9", "\x00", "！80",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := alloc.ParseSet(text)
		if err != nil {
			require.ErrorContains(t, err, "alloc: port set "+strconv.Quote(text))
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
