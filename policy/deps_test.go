package policy

import (
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestDeps keeps the package pure. What it needs of the standard library is quiet:
// parsing, comparing, sorting.
func TestDeps(t *testing.T) {
	allowed := []string{"cmp", "fmt", "math", "net/netip", "slices", "strconv", "strings", "time", "unicode/utf8"}
	reasons := map[string]string{
		"context":           "a verdict is a function of its inputs; there is nothing to cancel",
		"net/http":          "the matcher runs in every proxy call and must not drag a server in",
		"os":                "no I/O",
		"log":               "whoever asks logs the Decision",
		"sync":              "a table is immutable",
		"math/rand":         "the same inputs give the same Decision",
		"reflect":           "slow, and hides what is compared",
		"regexp":            "patterns are segments, literal means literal",
		"google.golang.org": "Envoy's messages are decoded in extauthz",
		"github.com":        "no third-party code decides, and imports point down: this is the bottom",
		"cel.dev":           "expressions are compiled in extauthz/config and come as Condition",
		"buf.build":         "the schema belongs to extauthz/config",
		"go.uber.org":       "no logging",
		"encoding/json":     "representations belong to the callers",
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := file.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "time.Now(") {
			t.Errorf("%s reads the clock: the same inputs give the same Decision", name)
		}
		for _, spec := range source.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			if slices.Contains(allowed, path) {
				continue
			}
			why := "it is not on the list of quiet packages"
			for prefix, reason := range reasons {
				if strings.HasPrefix(path, prefix) {
					why = reason
				}
			}
			t.Errorf("%s imports %q: %s", name, path, why)
		}
	}
}
