package repo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each Go snippet of the README is part of an example, line for line. So it compiles and does what it says.
func TestSnippetsOfTheReadmeAreInExamples(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(root, "*/example*_test.go"))
	require.NoError(t, err)
	var examples []string
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		examples = append(examples, unindented(string(text)))
	}
	snippets := strings.Split(string(readme), "```go\n")[1:]
	require.NotEmpty(t, snippets)
	for _, rest := range snippets {
		snippet, _, closed := strings.Cut(rest, "```")
		require.True(t, closed)
		require.Contains(t, strings.Join(examples, "\n"), unindented(snippet))
	}
}

func unindented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimLeft(line, "\t"))
	}
	return b.String()
}

// The code in each row of the README's table of libraries is part of a test in internal/conformance, except for white
// space.
func TestHooksOfTheReadmeAreTested(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(root, "internal/conformance/*_test.go"))
	require.NoError(t, err)
	var tests []string
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		tests = append(tests, strings.Fields(string(text))...)
	}
	tested := strings.Join(tests, " ")
	_, table, found := strings.Cut(string(readme), "\n| library | hook |\n")
	require.True(t, found)
	table, _, found = strings.Cut(table, "\n\n")
	require.True(t, found)
	for _, row := range strings.Split(table, "\n")[1:] { // without the line under the header
		spans := strings.Split(row, "`")
		require.Greater(t, len(spans), 2, row)
		for i := 1; i < len(spans); i += 2 {
			require.Contains(t, tested, spans[i])
		}
	}
}
