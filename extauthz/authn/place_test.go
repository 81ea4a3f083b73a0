package authn

import (
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/policy"
)

func request(headers ...string) *policy.Request {
	r := &policy.Request{Method: "GET", Host: "api.example", Path: "/"}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Headers = append(r.Headers, policy.Pair{Name: headers[i], Value: headers[i+1]})
	}
	return r
}

func (p presence) String() string {
	return [...]string{"unread", "absent", "present", "malformed", "repeated"}[p]
}

func TestHeaderWithScheme(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		state presence
		value string
	}{
		{"one credential", []string{"Bearer abc"}, present, "abc"},
		{"the scheme in other case", []string{"bEaReR abc"}, present, "abc"},
		{"several spaces are one separator (RFC 9110 11.4)", []string{"Bearer   abc"}, present, "abc"},
		{"space around the value is not part of it", []string{" \tBearer abc \t"}, present, "abc"},
		{"padding", []string{"Bearer abc=="}, present, "abc=="},
		{"all characters of token68", []string{"Bearer aZ09-._~+/="}, present, "aZ09-._~+/="},

		{"no header", nil, absent, ""},
		{"an empty header", []string{""}, absent, ""},
		{"another scheme", []string{"Digest abc"}, absent, ""},
		{"a scheme that begins like ours", []string{"BearerX abc"}, absent, ""},
		{"a credential without a scheme", []string{"abc"}, absent, ""},
		{"another scheme with a list", []string{`Digest username="a", realm="b"`}, absent, ""},
		{"the Kelvin sign is no K", []string{"Bear\u212Aer abc"}, absent, ""},

		{"the scheme alone", []string{"Bearer"}, malformed, ""},
		{"the scheme and a space", []string{"Bearer "}, malformed, ""},
		{"a tab instead of the space", []string{"Bearer\tabc"}, malformed, ""},
		{"a tab after the space", []string{"Bearer \tabc"}, malformed, ""},
		{"two words", []string{"Bearer abc def"}, malformed, ""},
		{"a colon instead of the space", []string{"Bearer:abc"}, malformed, ""},
		{"an equals sign instead of the space", []string{"Bearer=abc"}, malformed, ""},
		{"padding alone", []string{"Bearer =="}, malformed, ""},
		{"padding inside", []string{"Bearer a=b"}, malformed, ""},
		{"quotes", []string{`Bearer "abc"`}, malformed, ""},
		{"a NUL", []string{"Bearer a\x00b"}, malformed, ""},
		{"non-ASCII", []string{"Bearer ä"}, malformed, ""},
		{"a no-break space", []string{"Bearer\u00a0abc"}, malformed, ""},

		{"two of ours, joined by Envoy", []string{"Bearer a,Bearer b"}, repeated, ""},
		{"two equal ones", []string{"Bearer a,Bearer a"}, repeated, ""},
		{"two lines", []string{"Bearer a", "Bearer b"}, repeated, ""},
		{"two equal lines", []string{"Bearer a", "Bearer a"}, repeated, ""},
		{"ours behind another scheme", []string{"Digest x,Bearer a"}, repeated, ""},
		{"ours before another scheme", []string{"Bearer a, Digest x"}, repeated, ""},
		{"two of our schemes", []string{"Basic a,Bearer b"}, repeated, ""},
		{"a trailing comma", []string{"Bearer a,"}, repeated, ""},
		{"a leading comma", []string{",Bearer a"}, repeated, ""},
		{"an empty second line", []string{"Bearer a", ""}, repeated, ""},
		{"a comma in the credential", []string{"Bearer a,b"}, repeated, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request()
			for _, line := range tt.lines {
				r.Headers = append(r.Headers, policy.Pair{Name: "authorization", Value: line})
			}
			s := slot{kind: InHeader, name: "authorization", schemes: []string{"Bearer", "Basic"}}
			got := s.read(r)
			if got.state != tt.state || got.value != tt.value {
				t.Errorf("read(%q) = %v %q, want %v %q", tt.lines, got.state, got.value, tt.state, tt.value)
			}
		})
	}
}

func TestBareHeader(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		state presence
		value string
	}{
		{"one value", []string{"k-1"}, present, "k-1"},
		{"blanks inside", []string{"a b"}, present, "a b"},
		{"space around it", []string{" k "}, present, "k"},
		{"no header", nil, absent, ""},
		{"an empty header is a bad credential, not none", []string{""}, malformed, ""},
		{"blanks only", []string{"  "}, malformed, ""},
		{"a control character", []string{"a\x7f"}, malformed, ""},
		{"non-ASCII", []string{"ä"}, malformed, ""},
		{"two lines", []string{"a", "b"}, repeated, ""},
		{"two equal lines", []string{"a", "a"}, repeated, ""},
		{"two lines, joined", []string{"a,b"}, repeated, ""},
		{"an empty line and a good one", []string{"", "a"}, repeated, ""},
		{"an empty line and a good one, joined", []string{",a"}, repeated, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request()
			for _, line := range tt.lines {
				r.Headers = append(r.Headers, policy.Pair{Name: "x-api-key", Value: line})
			}
			s := slot{kind: InHeader, name: "x-api-key", schemes: []string{""}}
			got := s.read(r)
			if got.state != tt.state || got.value != tt.value {
				t.Errorf("read(%q) = %v %q, want %v %q", tt.lines, got.state, got.value, tt.state, tt.value)
			}
		})
	}
}

func TestCombinedHeader(t *testing.T) {
	s := slot{kind: InHeader, name: "authorization", schemes: []string{"Bearer", "Basic"}, combined: true}
	for _, tt := range []struct {
		name   string
		header string
		state  presence
		bearer string
		basic  string
	}{
		{"one", "Bearer a", present, "a", ""},
		{"two", "Basic b, bearer a", present, "a", "b"},
		{"two without a space", "Basic b,Bearer a", present, "a", "b"},
		{"Plain is Basic", "plain b", present, "", "b"},
		{"three, one of them nobody's", "Digest x, Basic b, Bearer a", present, "a", "b"},
		{"nobody's only", "Digest x", absent, "", ""},
		{"four", "Basic b, Bearer a, Digest c, Other d", malformed, "", ""},
		{"a scheme twice", "Bearer a, Bearer b", malformed, "", ""},
		{"a scheme twice with one credential", "Bearer a, Bearer a", malformed, "", ""},
		{"Plain beside Basic", "Plain a, Basic b", malformed, "", ""},
		{"a foreign scheme twice", "Digest a, Digest b, Bearer c", malformed, "", ""},
		{"three words", "Bearer a b", malformed, "", ""},
		{"one word", "Bearer", malformed, "", ""},
		{"an empty part", "Bearer a,", malformed, "", ""},
		{"an empty header", "", malformed, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := s.read(request("authorization", tt.header))
			if got.state != tt.state {
				t.Fatalf("read(%q) is %v, want %v", tt.header, got.state, tt.state)
			}
			if got.state != present {
				return
			}
			for i, want := range []string{tt.bearer, tt.basic} {
				if value, ok := got.credential(i); value != want || ok != (want != "") {
					t.Errorf("read(%q): %s is %q, want %q", tt.header, s.schemes[i], value, want)
				}
			}
		})
	}
}

func TestSemantics24Cookies(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		state presence
		value string
	}{
		{"alone", []string{"t=abc"}, present, "abc"},
		{"among others", []string{"a=1; t=abc; c=3"}, present, "abc"},
		{"without a space", []string{"a=1;t=abc;c=3"}, present, "abc"},
		{"quoted", []string{`t="abc"`}, present, "abc"},
		{"with an equals sign", []string{"t=abc=="}, present, "abc=="},
		{"others hold commas", []string{"a=1,2; t=abc; c=3,4"}, present, "abc"},
		{"others occur twice", []string{"a=1; a=2; t=abc"}, present, "abc"},
		{"in the second of two lines that Envoy joined", []string{"a=1,b=2; t=abc"}, present, "abc"},
		{"in two lines kept apart", []string{"a=1", "t=abc"}, present, "abc"},
		{"another one with its name in other case", []string{"T=evil; t=abc"}, present, "abc"},
		{"another one whose name ends like it", []string{"xt=evil; t=abc"}, present, "abc"},

		{"no cookie", nil, absent, ""},
		{"only others", []string{"a=1; b=2"}, absent, ""},
		{"its name as a value", []string{"a=t"}, absent, ""},

		{"empty", []string{"t="}, malformed, ""},
		{"its name without a value", []string{"t"}, malformed, ""},
		{"empty quotes", []string{`t=""`}, malformed, ""},
		{"one quote", []string{`t="abc`}, malformed, ""},
		{"a blank inside", []string{"t=a b"}, malformed, ""},
		{"a backslash", []string{`t=a\b`}, malformed, ""},
		{"non-ASCII", []string{"t=ä"}, malformed, ""},

		{"twice", []string{"t=a; t=b"}, repeated, ""},
		{"twice with one value", []string{"t=a; t=a"}, repeated, ""},
		{"twice, once without a value", []string{"t=a; t"}, repeated, ""},
		{"twice, first without a value", []string{"t; t=a"}, repeated, ""},
		{"twice with a blank before the equals sign", []string{"t=a; t =b"}, repeated, ""},
		{"in two lines kept apart, twice", []string{"t=a", "t=b"}, repeated, ""},
		{"in two lines that Envoy joined, twice", []string{"t=a,t=b"}, repeated, ""},
		{"hidden behind a comma", []string{"a=1,t=abc"}, repeated, ""},
		{"followed by a comma", []string{"t=abc,b=2"}, repeated, ""},
		{"good, and one hidden behind a comma", []string{"t=abc; a=1,t=evil"}, repeated, ""},
		{"quoted with a comma", []string{`t="a,b"`}, repeated, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request()
			for _, line := range tt.lines {
				r.Headers = append(r.Headers, policy.Pair{Name: "cookie", Value: line})
			}
			if got := readCookie(r, "t"); got.state != tt.state || got.value != tt.value {
				t.Errorf("readCookie(%q) = %v %q, want %v %q", tt.lines, got.state, got.value, tt.state, tt.value)
			}
		})
	}

	t.Run("among a hundred", func(t *testing.T) {
		line := strings.Repeat("a=1; ", 100) + "t=abc"
		if got := readCookie(request("cookie", line), "t"); got.state != present || got.value != "abc" {
			t.Errorf("readCookie gives %v %q", got.state, got.value)
		}
	})
}

func TestRemoveCookies(t *testing.T) {
	for _, tt := range []struct {
		name, line, want string
	}{
		{"alone", "t=abc", ""},
		{"first", "t=abc; b=2", "b=2"},
		{"last", "a=1; t=abc", "a=1"},
		{"in the middle", "a=1; t=abc; c=3", "a=1; c=3"},
		{"each of two", "t=1; a=1; t=2", "a=1"},
		{"each of several names", "s=1; a=1; t=2; b=2", "a=1; b=2"},
		{"others are left as they are", ` a="x y" ;t=1;  b=1,2`, `a="x y" ;  b=1,2`},
		{"behind a comma", "a=1,t=abc; c=3", "a=1; c=3"},
		{"before a comma", "a=1;t=abc,c=3", "a=1;c=3"},
		{"with a blank before the equals sign", "t =abc; a=1", "a=1"},
		{"without a value", "t; a=1", "a=1"},
		{"in other case it is another", "T=1", "T=1"},
		{"nothing there", "a=1; b=2", "a=1; b=2"},
		{"nothing at all", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, removed := RemoveCookies(tt.line, []string{"t", "s"})
			if got != tt.want || removed != (got != tt.line) {
				t.Errorf("RemoveCookies(%q) = %q, %v, want %q", tt.line, got, removed, tt.want)
			}
		})
	}
}

func TestQuery(t *testing.T) {
	for _, tt := range []struct {
		name, query string
		state       presence
		value       string
	}{
		{"alone", "access_token=abc", present, "abc"},
		{"among others", "a=1&access_token=abc&b=2", present, "abc"},
		{"escaped", "access_token=a%2Fb", present, "a/b"},
		{"its name escaped", "access%5Ftoken=abc", present, "abc"},
		{"in other case it is another", "Access_Token=abc", absent, ""},
		{"none", "a=1", absent, ""},
		{"an empty query", "", absent, ""},
		{"empty", "access_token=", malformed, ""},
		{"without a value", "access_token", malformed, ""},
		{"an invalid escape", "access_token=%zz", malformed, ""},
		{"a control character", "access_token=a%00b", malformed, ""},
		{"twice", "access_token=a&access_token=b", repeated, ""},
		{"twice with one value", "access_token=a&access_token=a", repeated, ""},
		{"twice, once escaped", "access_token=a&access%5ftoken=b", repeated, ""},
		{"hidden behind a semicolon", "a=1;access_token=abc", repeated, ""},
		{"followed by a semicolon", "access_token=abc;b=1", repeated, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := readQuery(tt.query, "access_token"); got.state != tt.state || got.value != tt.value {
				t.Errorf("readQuery(%q) = %v %q, want %v %q", tt.query, got.state, got.value, tt.state, tt.value)
			}
		})
	}
	got := QuerySpellings("access_token=a&b=1&access%5Ftoken=c&access_token=d", "access_token")
	if want := []string{"access_token", "access%5Ftoken"}; !slices.Equal(got, want) {
		t.Errorf("QuerySpellings gives %q, want %q", got, want)
	}
}

// FuzzPlaces holds that a header gives a credential only where exactly one is
// written, and that it then is all of it.
func FuzzPlaces(f *testing.F) {
	for _, seed := range []string{"Bearer abc", "bearer  x", "Bearer\tx", "Bearer x y", "Bearer", "BearerX y", "Basic a,Bearer b", "Digest a=\"b\", c=d", ",", " Bearer =", "Bearer a="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		plain := slot{kind: InHeader, name: "authorization", schemes: []string{"Bearer", "Basic"}}
		r := request("authorization", header)
		got := plain.read(r)
		if got.state == present {
			scheme, rest, _ := strings.Cut(trimSpace(header), " ")
			if !strings.EqualFold(scheme, plain.schemes[got.scheme]) || strings.TrimLeft(rest, " ") != got.value || strings.ContainsAny(got.value, ", \t") {
				t.Errorf("read(%q) = %q of scheme %d", header, got.value, got.scheme)
			}
		} else if got.value != "" {
			t.Errorf("read(%q) is %v and has the value %q", header, got.state, got.value)
		}

		combined := plain
		combined.combined = true
		if both := combined.read(r); got.state == present && (both.state != present || both.value != got.value || both.scheme != got.scheme) {
			t.Errorf("read(%q) is %v %q alone and %v %q combined", header, got.state, got.value, both.state, both.value)
		}
		if bare := readBare(request("x", header), "x"); bare.state == present && (bare.value == "" || strings.Contains(bare.value, ",")) {
			t.Errorf("readBare(%q) = %q", header, bare.value)
		}
		for _, name := range []string{"a", "access_token"} {
			if q := readQuery(header, name); q.state == present && len(QuerySpellings(header, name)) != 1 {
				t.Errorf("readQuery(%q) is present and has the spellings %q", header, QuerySpellings(header, name))
			}
		}
	})
}

// FuzzCookie holds that no reader finds a removed cookie, and that every reader finds
// the same cookie where we do.
func FuzzCookie(f *testing.F) {
	for _, seed := range []string{"t=a", "a=1; t=b", "t=a,t=b", "a=1,t=x; c=3", `t="a"`, "t =a", ";;t=,", "t", "t=a; T=b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got := readCookie(request("cookie", line), "t")
		one, n := findCookie(line, "t", false)
		other, m := findCookie(line, "t", true)
		if got.state == present && (n != 1 || m != 1 || one != other) {
			t.Errorf("readCookie(%q) = %q, and readers find %q and %q", line, got.value, one, other)
		}
		rest, _ := RemoveCookies(line, []string{"t"})
		for _, commas := range []bool{false, true} {
			if v, n := findCookie(rest, "t", commas); n != 0 {
				t.Errorf("RemoveCookies(%q) = %q, where t is %q", line, rest, v)
			}
		}
		// The others are as they were, for a reader that splits at semicolons, unless a
		// removed one was hidden in them.
		if m == n {
			for _, name := range []string{"a", "c"} {
				before, k := findCookie(line, name, true)
				after, l := findCookie(rest, name, true)
				if before != after || k != l {
					t.Errorf("RemoveCookies(%q) = %q, which changes %s from %q to %q", line, rest, name, before, after)
				}
			}
		}
	})
}
