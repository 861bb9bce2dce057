package repo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a reader copies from the README compiles and does what it says: each of its Go snippets stands, line for line, in an
// example_test.go.
func TestSnippetsOfTheReadmeAreInExamples(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(root, "*/example_test.go"))
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
