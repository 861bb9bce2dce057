package tuple_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/tuple"
)

func FuzzParse(f *testing.F) {
	for _, s := range texts {
		f.Add(s)
	}
	for _, s := range []string{
		"", "->", "[::ffff:192.0.2.1]:049152->198.51.100.7:443", "[fe80::1%a->b]:1->[fe80::2]:2", "[::%]:1->[::1]:1",
		"0.0.0.0:0->0.0.0.0:0",
		"192.0.2.1:1->[::ffff:0:0]:1", "1.2.3.4:1->1.2.3.4:1\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := tuple.Parse(s)
		if err != nil {
			require.Zero(t, u)
			return
		}
		require.True(t, u.IsValid(), "%q parses", s)
		again, err := tuple.Parse(u.String())
		require.NoError(t, err, "%q", s)
		require.Equal(t, u, again, "%q", s)
		var back tuple.Tuple
		text, err := u.MarshalText()
		require.NoError(t, err)
		require.NoError(t, back.UnmarshalText(text))
		require.Equal(t, u, back, "%q", s)
	})
}
