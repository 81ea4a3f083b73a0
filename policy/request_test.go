package policy

import (
	"strings"
	"testing"
)

func TestSemantics7CanonicalPath(t *testing.T) {
	loose := PathOptions{AllowSemicolons: true}
	for _, tt := range []struct {
		name string
		path string
		opts PathOptions
		want string // "" is refused
	}{
		// One spelling.
		{"the root", "/", PathOptions{}, "/"},
		{"plain segments stay", "/a/b-c_d.e~f", PathOptions{}, "/a/b-c_d.e~f"},
		{"path characters stay", "/!$&'()*+,=:@", PathOptions{}, "/!$&'()*+,=:@"},
		{"one trailing slash goes", "/orders/", PathOptions{}, "/orders"},
		{"an escaped path character is decoded", "/%61%2D%7e%3A", PathOptions{}, "/a-~:"},
		{"a space is written in upper case", "/a%20b", PathOptions{}, "/a%20b"},
		{"lower-case escapes are written in upper case", "/%c3%bcber", PathOptions{}, "/%C3%BCber"},
		{"an escaped question mark stays escaped", "/a%3fb", PathOptions{}, "/a%3Fb"},
		{"an escaped fragment stays escaped", "/a%23b", PathOptions{}, "/a%23b"},
		{"raw characters that are no path characters are escaped", "/\"<>^{|}`", PathOptions{}, "/%22%3C%3E%5E%7B%7C%7D%60"},
		{"raw brackets are escaped", "/a[0]", PathOptions{}, "/a%5B0%5D"},
		{"letters keep their case", "/Orders", PathOptions{}, "/Orders"},
		{"no Unicode normalisation", "/u%CC%88", PathOptions{}, "/u%CC%88"},
		{"three dots are a name", "/...", PathOptions{}, "/..."},
		{"four bytes", "/%F0%9F%98%80", PathOptions{}, "/%F0%9F%98%80"},
		{"the replacement character is a character", "/%EF%BF%BD", PathOptions{}, "/%EF%BF%BD"},
		{"semicolons where allowed", "/a;b=1", loose, "/a;b=1"},
		{"an escaped semicolon where allowed", "/a%3Bb", loose, "/a;b"},

		// Two readings.
		{"no slash", "a", PathOptions{}, ""},
		{"an absolute target", "http://h/a", PathOptions{}, ""},
		{"two slashes", "//", PathOptions{}, ""},
		{"an empty segment", "/a//b", PathOptions{}, ""},
		{"two trailing slashes", "/a//", PathOptions{}, ""},
		{"a dot segment", "/a/./b", PathOptions{}, ""},
		{"a double dot segment", "/a/..", PathOptions{}, ""},
		{"an escaped dot segment", "/%2e%2E/b", PathOptions{}, ""},
		{"a half escaped dot segment", "/.%2e", PathOptions{}, ""},
		{"a dot segment with parameters", "/a/..;x/b", loose, ""},
		{"a dot segment with escaped parameters", "/a/.%3bx/b", loose, ""},
		{"a fragment", "/a#b", PathOptions{}, ""},
		{"a backslash", "/a\\b", PathOptions{}, ""},
		{"an escaped backslash", "/a%5cb", PathOptions{}, ""},
		{"an escaped slash", "/a%2fb", PathOptions{}, ""},
		{"an escaped percent sign", "/a%252fb", PathOptions{}, ""},
		{"NUL", "/a\x00", PathOptions{}, ""},
		{"an escaped NUL", "/a%00", PathOptions{}, ""},
		{"an escaped line feed", "/a%0A", PathOptions{}, ""},
		{"DEL", "/a\x7f", PathOptions{}, ""},
		{"an escaped DEL", "/a%7F", PathOptions{}, ""},
		{"an escaped C1 control", "/a%C2%85", PathOptions{}, ""},
		{"a raw space", "/a b", PathOptions{}, ""},
		{"raw non-ASCII", "/über", PathOptions{}, ""},
		{"half an escape", "/a%2", PathOptions{}, ""},
		{"a percent sign alone", "/a%", PathOptions{}, ""},
		{"an escape that is not hexadecimal", "/a%zz", PathOptions{}, ""},
		{"not UTF-8", "/%ff", PathOptions{}, ""},
		{"half a character", "/%c3", PathOptions{}, ""},
		{"a character over a segment's end", "/%c3/%bc", PathOptions{}, ""},
		{"a character with a letter in it", "/%c3a%bc", PathOptions{}, ""},
		{"an overlong character", "/%c0%af", PathOptions{}, ""},
		{"a surrogate", "/%ed%a0%80", PathOptions{}, ""},
		{"a semicolon", "/a;b", PathOptions{}, ""},
		{"an escaped semicolon", "/a%3bb", PathOptions{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, reason, ok := ParseRequest("GET", "", tt.path, tt.opts)
			if ok != (tt.want != "") || r.Path != tt.want {
				t.Errorf("ParseRequest(%q) = %q, %v, %v, want %q", tt.path, r.Path, reason, ok, tt.want)
			}
			if !ok && reason != ReasonPathNotCanonical {
				t.Errorf("ParseRequest(%q): %v, want %v", tt.path, reason, ReasonPathNotCanonical)
			}
		})
	}
}

func TestParseRequestTarget(t *testing.T) {
	for _, tt := range []struct {
		name, target, path, query string
		ok                        bool
	}{
		{"the query follows the first question mark", "/a?b?c=%zz", "/a", "b?c=%zz", true},
		{"the asterisk of OPTIONS is no path", "*", "*", "", true},
		{"the empty target of CONNECT is no path", "", "", "", true},
		{"a query without a path is refused", "?a", "", "", false},
		{"a fragment in the query is refused", "/a?b#c", "", "", false},
		{"a control character in the query is refused", "/a?b\n", "", "", false},
		{"an asterisk with a query is refused", "*?a", "", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _, ok := ParseRequest("GET", "h", tt.target, PathOptions{})
			if ok != tt.ok || r.Path != tt.path || r.Query != tt.query {
				t.Errorf("ParseRequest(%q) = %q, %q, %v, want %q, %q, %v", tt.target, r.Path, r.Query, ok, tt.path, tt.query, tt.ok)
			}
		})
	}
	table := tableOf(t, routesOf(t, "/")...)
	for _, target := range []string{"*", ""} {
		if m := table.Match(requestOf(t, "OPTIONS", "h", target)); m.Route != nil {
			t.Errorf("Match(%q) = %q, want none", target, m.Route.Name)
		}
	}
}

func TestSemantics20MethodTokens(t *testing.T) {
	for _, tt := range []struct {
		name, method string
		ok           bool
	}{
		{"an ordinary method", "GET", true},
		{"an unknown method", "M-SEARCH", true},
		{"lower case is another method", "get", true},
		{"an empty method", "", false},
		{"a space", "GET ", false},
		{"a line feed", "GET\n", false},
		{"a separator", "GET/", false},
		{"non-ASCII", "GÉT", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, reason, ok := ParseRequest(tt.method, "h", "/", PathOptions{})
			if ok != tt.ok || !ok && reason != ReasonMethodInvalid {
				t.Errorf("ParseRequest(%q) = %v, %v, want %v", tt.method, reason, ok, tt.ok)
			}
		})
	}
}

func TestSemantics21Hosts(t *testing.T) {
	for _, tt := range []struct {
		name, host, want string
		ok               bool
	}{
		{"no host", "", "", true},
		{"lower case", "Example.COM", "example.com", true},
		{"a port is dropped", "example.com:8443", "example.com", true},
		{"a trailing dot is dropped", "example.com.", "example.com", true},
		{"both are dropped", "example.com.:443", "example.com", true},
		{"an underscore is common in clusters", "my_service", "my_service", true},
		{"an IPv4 address", "10.0.0.1:80", "10.0.0.1", true},
		{"an IPv6 address", "[::1]:80", "[::1]", true},
		{"an IPv6 address has one spelling", "[0:0:0::0001]", "[::1]", true},
		{"an IPv6 address in upper case", "[FE80::A]", "[fe80::a]", true},

		{"two Host lines", "a.com,b.com", "", false},
		{"userinfo", "u@a.com", "", false},
		{"a space", "a b", "", false},
		{"non-ASCII", "ü.com", "", false},
		{"an empty label", "a..com", "", false},
		{"an empty first label", ".a.com", "", false},
		{"two trailing dots", "a.com..", "", false},
		{"only a dot", ".", "", false},
		{"only a port", ":80", "", false},
		{"two ports", "a.com:80:80", "", false},
		{"an empty port", "a.com:", "", false},
		{"a port that is no number", "a.com:http", "", false},
		{"a port out of range", "a.com:65536", "", false},
		{"IPv6 without brackets", "::1", "", false},
		{"IPv4 in brackets", "[10.0.0.1]", "", false},
		{"a zone", "[fe80::1%25eth0]", "", false},
		{"an open bracket", "[::1", "", false},
		{"text behind a bracket", "[::1]x", "", false},
		{"a slash", "a/b", "", false},
		{"an asterisk", "*.a.com", "", false},
		{"a label of 64 bytes", strings.Repeat("a", 64) + ".com", "", false},
		{"a name of 254 bytes", strings.Repeat("a.", 126) + "aa", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, reason, ok := ParseRequest("GET", tt.host, "/", PathOptions{})
			if ok != tt.ok || r.Host != tt.want || !ok && reason != ReasonHostInvalid {
				t.Errorf("ParseRequest(%q) = %q, %v, %v, want %q, %v", tt.host, r.Host, reason, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestQueryValue(t *testing.T) {
	for _, tt := range []struct {
		name, query, want string
		ok                bool
	}{
		{"plain", "a=1&b=2", "2", true},
		{"decoded", "b=x%20y+z", "x y z", true},
		{"an encoded name", "%62=2", "2", true},
		{"without a value", "b", "", true},
		{"absent", "a=1", "", false},
		{"repeated counts as absent", "b=1&b=1", "", false},
		{"repeated under two spellings counts as absent", "b=1&%62=1", "", false},
		{"badly escaped counts as absent", "b=%zz", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Request{Query: tt.query}
			if got, ok := r.QueryValue("b"); got != tt.want || ok != tt.ok {
				t.Errorf("QueryValue of %q = %q, %v, want %q, %v", tt.query, got, ok, tt.want, tt.ok)
			}
		})
	}
}

// FuzzCanonical: what is decided for a path is decided for its canonical form, and the
// canonical form of that is itself.
func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{"/", "/a/b/", "/%61/%c3%bc", "/a;b", "/..;/a", "/a%2fb", "/{x}", "/über", "/admin/x"} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	table := tableOf(f, routesOf(f, "/{$}", "/a/{x}", "/admin/", "/%C3%BC/{rest...}", "/x/{y}/z/")...)
	f.Fuzz(func(t *testing.T, path string, semicolons bool) {
		opts := PathOptions{AllowSemicolons: semicolons}
		r, _, ok := ParseRequest("GET", "h", path, opts)
		if !ok || r.Path == "" || r.Path == "*" {
			return
		}
		again, _, ok := ParseRequest("GET", "h", r.Path, opts)
		if !ok || again.Path != r.Path {
			t.Fatalf("%q becomes %q, which becomes %q, %v", path, r.Path, again.Path, ok)
		}
		slash, _, ok := ParseRequest("GET", "h", strings.TrimSuffix(r.Path, "/")+"/", opts)
		if !ok || slash.Path != r.Path {
			t.Fatalf("%q with a slash is %q, %v, want %q", path, slash.Path, ok, r.Path)
		}
		if a, b := table.Match(&r).Route, table.Match(&again).Route; a != b {
			t.Fatalf("%q is decided by %v, its canonical form %q by %v", path, a, r.Path, b)
		}
		for _, c := range []byte(r.Path) {
			if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>^{|}`\\#?", c) >= 0 {
				t.Fatalf("%q becomes %q, which is no path", path, r.Path)
			}
		}
	})
}
