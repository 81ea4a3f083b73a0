package policy

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestParsePattern(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"a path", "/orders", []string{"/orders"}},
		{"a subtree", "/orders/", []string{"/orders/"}},
		{"the end of the path is what a path means", "/orders/{$}", []string{"/orders"}},
		{"the root alone", "/{$}", []string{"/{$}"}},
		{"everything", "/", []string{"/"}},
		{"everything with a name", "/{rest...}", []string{"/{rest...}"}},
		{"several methods are several patterns", "GET,HEAD /a/{id}", []string{"GET /a/{id}", "HEAD /a/{id}"}},
		{"more space than needed", "GET  \t/a", []string{"GET /a"}},
		{"a host", "GET Example.COM/a", []string{"GET example.com/a"}},
		{"a wildcard host", "*.example.com/", []string{"*.example.com/"}},
		{"an IPv6 host", "[0::1]/", []string{"[::1]/"}},
		{"literals as in requests", "/%c3%bcber/%61", []string{"/%C3%BCber/a"}},
		{"a wildcard and the rest", "/{a}/x/{rest...}", []string{"/{a}/x/{rest...}"}},
		{"gRPC", "POST /package.Service/Method", []string{"POST /package.Service/Method"}},
		{"a method of one's own", "M-SEARCH /", []string{"M-SEARCH /"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := ParsePattern(tt.text)
			var got []string
			for _, p := range list {
				got = append(got, p.String())
			}
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("ParsePattern(%q) = %q, %v, want %q", tt.text, got, err, tt.want)
			}
		})
	}
}

func TestParsePatternErrors(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		offset     int
		want       string // part of the error
	}{
		{"nothing", "", 0, "has no path"},
		{"a method alone", "GET", 0, "has no path"},
		{"no path", "GET example.com", 4, "has no path"},
		{"a missing method", "GET, /a", 4, "a method is missing"},
		{"no method before the space", " /a", 0, "a method is missing"},
		{"a lower-case method", "GET,post /a", 4, "write POST"},
		{"a repeated method", "GET,GET /a", 4, "repeated"},
		{"a bad method", "G(T /a", 0, "not a method"},
		{"a space in the path", "/a b", 0, "write %20"},
		{"a port", "example.com:80/a", 11, "without its port"},
		{"a port of an IPv6 host", "[::1]:80/a", 5, "without its port"},
		{"a bad host", "GET a..b/a", 4, "not a host"},
		{"a wildcard host alone", "*/a", 0, "no other wildcard"},
		{"a wildcard host of nothing", "*./a", 2, "not a host"},
		{"a wildcard within a host", "GET a.*.com/a", 6, "no other wildcard"},
		{"an empty segment", "/a//b", 3, "empty segment"},
		{"only slashes", "//", 1, "empty segment"},
		{"a dot segment", "/a/../b", 3, "dot segment"},
		{"an escaped slash", "/a%2Fb", 2, "escaped slash"},
		{"a bad escape", "/ab%zz", 3, "two hexadecimal digits"},
		{"a query", "/a?b", 2, "%3F"},
		{"a fragment", "/a#b", 2, "%23"},
		{"raw non-ASCII", "/ü", 1, "not escaped"},
		{"a semicolon", "/a;b", 2, "allow_semicolons"},
		{"a wildcard with text before", "/a{x}", 2, "whole segment"},
		{"a wildcard with text behind", "/{x}a", 1, "whole segment"},
		{"an open brace", "/{x", 1, "whole segment"},
		{"a closing brace", "/x}", 2, "whole segment"},
		{"a wildcard without a name", "/{}", 2, "not a name"},
		{"a rest without a name", "/{...}", 2, "not a name"},
		{"a name with a digit first", "/{1a}", 2, "not a name"},
		{"a name with a space", "/{a b}", 0, "write %20"},
		{"a name twice", "/{a}/{a}", 6, "twice"},
		{"a name twice, the second the rest", "/{a}/{a...}", 6, "twice"},
		{"a rest that is not last", "/{a...}/b", 1, "not at the end"},
		{"a rest with a slash behind", "/{a...}/", 1, "not at the end"},
		{"an end that is not last", "/{$}/b", 1, "not at the end"},
		{"an end with a slash behind", "/a/{$}/", 3, "not at the end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := ParsePattern(tt.text)
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("ParsePattern(%q) = %v, %v, want an error", tt.text, list, err)
			}
			if syntax.Offset != tt.offset && tt.want != "write %20" || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ParsePattern(%q): %d: %v, want %d: …%s…", tt.text, syntax.Offset, err, tt.offset, tt.want)
			}
		})
	}
}

func TestParsePatternWithSemicolons(t *testing.T) {
	list, err := PathOptions{AllowSemicolons: true}.ParsePattern("/a;b")
	if err != nil || list[0].String() != "/a;b" {
		t.Errorf("ParsePattern = %v, %v, want /a;b", list, err)
	}
}

// FuzzParsePattern: no panic, errors point into the text, and what is printed parses to
// the same pattern.
func FuzzParsePattern(f *testing.F) {
	for _, seed := range []string{"/", "GET,HEAD a.com/{x}/{y...}", "*.a.com/{$}", "POST /a%20b/", "/{", "GET //", "[::1]:1/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParsePattern(text)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(text) {
				t.Fatalf("ParsePattern(%q): %#v", text, err)
			}
			return
		}
		for _, p := range list {
			again, err := ParsePattern(p.String())
			if err != nil || len(again) != 1 {
				t.Fatalf("ParsePattern(%q) = %q, which is %v, %v", text, p.String(), again, err)
			}
			if q := again[0]; q.String() != p.String() || q.compare(&p) != equal || !slices.Equal(q.Params(), p.Params()) {
				t.Fatalf("ParsePattern(%q) = %q, printed and parsed %q", text, p.String(), q.String())
			}
		}
	})
}

func TestParam(t *testing.T) {
	for _, tt := range []struct {
		name, pattern, path, param, want string
		ok                               bool
	}{
		{"a segment", "/tenants/{tenant}/orders/", "/tenants/acme/orders/1", "tenant", "acme", true},
		{"decoded", "/t/{x}", "/t/a%20%C3%BC", "x", "a ü", true},
		{"the rest", "/files/{rest...}", "/files/a/b%20c/", "rest", "a/b c", true},
		{"the rest of nothing", "/files/{rest...}", "/files", "rest", "", true},
		{"the rest at the root", "/{rest...}", "/", "rest", "", true},
		{"another name", "/t/{x}", "/t/a", "y", "", false},
		{"no name", "/t/", "/t/a", "", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := tableOf(t, routesOf(t, tt.pattern)...)
			r := requestOf(t, "GET", "h", tt.path)
			m := table.Match(r)
			if got, ok := m.Param(r, tt.param); got != tt.want || ok != tt.ok {
				t.Errorf("Param(%q) = %q, %v, want %q, %v", tt.param, got, ok, tt.want, tt.ok)
			}
		})
	}
}
