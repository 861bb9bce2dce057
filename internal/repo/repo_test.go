package repo

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

const (
	root     = "../.." // of the repository
	module   = "github.com/ephemera-go/ephemera"
	maxLines = 450 // of a file
	maxWidth = 120 // of a line in columns, of which a tab takes four
)

// The floors, lowest first. Each may import those before it.
var floors = []string{"alloc", "tuple", "dialer"}

// The packages that a floor must not import, except in tests.
var unknown = map[string][]string{
	"alloc": {"net", "net/netip", "time", "golang.org/x/sys"}, // no addresses, no sockets, no clock
	"tuple": {"net", "golang.org/x/sys"},                      // no sockets
}

// The floors that a package under internal/ may import. A package that is not named here may import none.
var floorsOfInternal = map[string][]string{
	"internal/conformance": floors, // a separate module that tests the dialer from outside
}

// The direct requirements of the root module. Each program that imports a floor inherits them.
var requirements = []string{
	"github.com/anishathalye/porcupine",
	"github.com/bits-and-blooms/bitset",
	"github.com/stretchr/testify",
	"go.uber.org/goleak",
	"golang.org/x/sys",
	"pgregory.net/rapid",
}

func TestEveryPackageHasOneDocComment(t *testing.T) {
	type pkg struct{ files, docs []string }
	code, tests := map[string]*pkg{}, map[string]*pkg{}
	for _, f := range parse(t) {
		kind := code
		if f.isTest() {
			kind = tests
		}
		p := kind[f.dir()]
		if p == nil {
			p = &pkg{}
			kind[f.dir()] = p
		}
		p.files = append(p.files, f.path)
		if f.ast.Doc != nil {
			p.docs = append(p.docs, f.path)
		}
	}
	for dir, p := range tests { // in a package that has only test files, they have the doc comment
		if code[dir] == nil {
			code[dir] = p
		}
	}

	var bad []string
	for dir, p := range code {
		if len(p.docs) != 1 {
			bad = append(bad, fmt.Sprintf("%s: %d package comments %v, want one", dir, len(p.docs), p.docs))
		}
	}
	none(t, bad)
}

func TestEveryExportedNameOfTheFloorsHasADocComment(t *testing.T) {
	var bad []string
	for _, f := range parse(t) {
		if f.isTest() || !slices.Contains(floors, f.dir()) {
			continue
		}
		for _, decl := range f.ast.Decls {
			for _, name := range undocumented(decl) {
				bad = append(bad, fmt.Sprintf("%s: %s", f.at(name), name.Name))
			}
		}
	}
	none(t, bad)
}

func TestImportsGoDownwards(t *testing.T) {
	var bad []string
	for _, f := range parse(t) {
		banned := upwards(f.dir())
		if !f.isTest() {
			banned = append(banned, unknown[f.dir()]...)
		}
		for _, spec := range f.ast.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			for _, b := range banned {
				if path == b || strings.HasPrefix(path, b+"/") && b != "net" { // net/netip is not net
					bad = append(bad, fmt.Sprintf("%s: %s must not import %s", f.at(spec), f.dir(), path))
				}
			}
		}
	}
	none(t, bad)
}

func TestRootModuleRequiresNothingElse(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)

	var direct []string
	inBlock := false
	for line := range strings.Lines(string(text)) {
		code, comment, _ := strings.Cut(line, "//")
		words := strings.Fields(code)
		switch {
		case len(words) == 0:
			continue
		case words[0] == "require" && slices.Contains(words, "("):
			inBlock = true
			continue
		case words[0] == ")":
			inBlock = false
			continue
		case words[0] == "require":
			words = words[1:]
		case !inBlock:
			continue
		}
		if strings.TrimSpace(comment) != "indirect" {
			direct = append(direct, words[0])
		}
	}
	require.ElementsMatch(t, requirements, direct)
}

func TestNoNotesToSelf(t *testing.T) {
	// In pieces, so that this file does not break the rule.
	note := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	var bad []string
	for _, f := range parse(t) {
		for i, line := range f.lines {
			if note.MatchString(line) {
				bad = append(bad, fmt.Sprintf("%s:%d: %s", f.path, i+1, strings.TrimSpace(line)))
			}
		}
	}
	none(t, bad)
}

func TestNoLineIsLong(t *testing.T) {
	var bad []string
	for _, f := range parse(t) {
		for i, line := range f.lines {
			line = strings.ReplaceAll(strings.TrimRight(line, "\n"), "\t", "    ")
			if width := utf8.RuneCountInString(line); width > maxWidth {
				bad = append(bad, fmt.Sprintf("%s:%d: %d columns, at most %d", f.path, i+1, width, maxWidth))
			}
		}
	}
	none(t, bad)
}

func TestNoFileIsLong(t *testing.T) {
	var bad []string
	for _, f := range parse(t) {
		if !f.isTest() && len(f.lines) > maxLines {
			bad = append(bad, fmt.Sprintf("%s: %d lines, at most %d", f.path, len(f.lines), maxLines))
		}
	}
	none(t, bad)
}

// upwards returns the floors that the package in dir must not import.
func upwards(dir string) []string {
	allowed := floors
	if i := slices.Index(floors, dir); i >= 0 {
		allowed = floors[:i+1]
	} else if strings.HasPrefix(dir, "internal/") {
		allowed = floorsOfInternal[dir]
	}
	var paths []string
	for _, floor := range floors {
		if !slices.Contains(allowed, floor) {
			paths = append(paths, module+"/"+floor)
		}
	}
	return paths
}

// undocumented returns the exported names that decl declares without a doc comment.
func undocumented(decl ast.Decl) []*ast.Ident {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Doc == nil && decl.Name.IsExported() && (decl.Recv == nil || receiver(decl).IsExported()) {
			return []*ast.Ident{decl.Name}
		}
	case *ast.GenDecl:
		var bad []*ast.Ident
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if !spec.Name.IsExported() {
					continue
				}
				// A comment above a group of types does not document each of them.
				if spec.Doc == nil && (decl.Doc == nil || decl.Lparen.IsValid()) {
					bad = append(bad, spec.Name)
				}
				bad = append(bad, undocumentedMembers(spec.Type)...)
			case *ast.ValueSpec:
				if decl.Doc == nil && spec.Doc == nil && spec.Comment == nil {
					bad = append(bad, exported(spec.Names)...)
				}
			}
		}
		return bad
	}
	return nil
}

// undocumentedMembers does the same for the fields of a struct and the methods of an interface. An embedded type has
// its doc comment where it is declared.
func undocumentedMembers(typ ast.Expr) []*ast.Ident {
	var members *ast.FieldList
	switch typ := typ.(type) {
	case *ast.StructType:
		members = typ.Fields
	case *ast.InterfaceType:
		members = typ.Methods
	default:
		return nil
	}
	var bad []*ast.Ident
	for _, m := range members.List {
		if m.Doc == nil && m.Comment == nil {
			bad = append(bad, exported(m.Names)...)
		}
	}
	return bad
}

// receiver returns the name of the type that decl is a method of.
func receiver(decl *ast.FuncDecl) *ast.Ident {
	typ := decl.Recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.Ident:
			return t
		case *ast.StarExpr:
			typ = t.X
		case *ast.ParenExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.IndexListExpr:
			typ = t.X
		default:
			return ast.NewIdent("_")
		}
	}
}

func exported(names []*ast.Ident) []*ast.Ident {
	return slices.DeleteFunc(slices.Clone(names), func(n *ast.Ident) bool { return !n.IsExported() })
}

// A file is one Go file of the repository, for any system, in any module.
type file struct {
	path  string // relative to the root, with slashes
	lines []string
	ast   *ast.File
	fset  *token.FileSet
}

func (f file) dir() string  { return filepath.ToSlash(filepath.Dir(f.path)) }
func (f file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

func (f file) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(n.Pos()).Line)
}

// parse reads every Go file of the repository.
func parse(t *testing.T) []file {
	t.Helper()
	fset := token.NewFileSet()
	var files []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			hidden := path != root && strings.HasPrefix(d.Name(), ".")
			if hidden || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		tree, err := parser.ParseFile(fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		lines := slices.Collect(strings.Lines(string(text)))
		files = append(files, file{path: filepath.ToSlash(rel), lines: lines, ast: tree, fset: fset})
		return nil
	})
	require.NoError(t, err)
	for _, floor := range floors {
		require.True(t, slices.ContainsFunc(files, func(f file) bool { return f.dir() == floor }),
			"no Go files found in %s", floor)
	}
	return files
}

// none fails the test if there is anything bad.
func none(t *testing.T, bad []string) {
	t.Helper()
	slices.Sort(bad)
	require.Empty(t, strings.Join(bad, "\n"))
}
