package curl

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var accept = Header{"accept", "*/*"}

func TestParse(t *testing.T) {
	for _, row := range []struct {
		name, line string
		want       Request
	}{
		{"a URL alone", "curl http://h/x", Request{"GET", "http", "h", "/x", []Header{accept}, ""}},
		{"a URL without scheme is http", "curl h:8080", Request{"GET", "http", "h:8080", "/", []Header{accept}, ""}},
		{"the query stays as it is, the fragment is not sent", "curl 'https://h/a%2fb?x=1&y=%zz#f'", Request{"GET", "https", "h", "/a%2fb?x=1&y=%zz", []Header{accept}, ""}},
		{"dot segments are removed as curl does", "curl http://h/a/../b/./c/..", Request{"GET", "http", "h", "/b/", []Header{accept}, ""}},
		{"unless told not to", "curl --path-as-is http://h/a/../b", Request{"GET", "http", "h", "/a/../b", []Header{accept}, ""}},
		{"encoded dots are left", "curl http://h/a/%2e%2e/b", Request{"GET", "http", "h", "/a/%2e%2e/b", []Header{accept}, ""}},
		{"headers keep their case and order", `curl -H 'X-B: 1' -H "x-a: two words" http://h`, Request{"GET", "http", "h", "/", []Header{{"X-B", "1"}, {"x-a", "two words"}, accept}, ""}},
		{"a header repeated stays apart", `curl -H 'X: 1' -H 'X: 2' http://h`, Request{"GET", "http", "h", "/", []Header{{"X", "1"}, {"X", "2"}, accept}, ""}},
		{"an empty header, one that is removed, an accept of its own", `curl -H 'X-E;' -H 'User-Agent:' -H 'Accept: text/html' http://h`, Request{"GET", "http", "h", "/", []Header{{"X-E", ""}, {"Accept", "text/html"}}, ""}},
		{"the Host header wins", `curl -H 'Host: api.example.com' http://127.0.0.1:10000/x`, Request{"GET", "http", "api.example.com", "/x", []Header{accept}, ""}},
		{"method before, after and glued", `curl http://h -XDELETE`, Request{"DELETE", "http", "h", "/", []Header{accept}, ""}},
		{"short options together", `curl -sSkLXPUT http://h`, Request{"PUT", "http", "h", "/", []Header{accept}, ""}},
		{"data make a POST", `curl -d a=1 --data-raw @b http://h`, Request{"POST", "http", "h", "/", []Header{{"content-type", "application/x-www-form-urlencoded"}, accept}, "a=1&@b"}},
		{"-G puts data into the query", `curl -G -d a=1 --data-urlencode 'q=x y&z' 'http://h/s?b=2'`, Request{"GET", "http", "h", "/s?b=2&a=1&q=x%20y%26z", []Header{accept}, ""}},
		{"--json", `curl --json '{"a":1}' http://h`, Request{"POST", "http", "h", "/", []Header{{"content-type", "application/json"}, {"accept", "application/json"}}, `{"a":1}`}},
		{"-I is HEAD", `curl -I http://h`, Request{"HEAD", "http", "h", "/", []Header{accept}, ""}},
		{"-u is Basic", `curl -u adam:secret http://h`, Request{"GET", "http", "h", "/", []Header{{"authorization", "Basic YWRhbTpzZWNyZXQ="}, accept}, ""}},
		{"userinfo in the URL too", `curl http://adam:secret@h/`, Request{"GET", "http", "h", "/", []Header{{"authorization", "Basic YWRhbTpzZWNyZXQ="}, accept}, ""}},
		{"a bearer token by option", `curl --oauth2-bearer T http://h`, Request{"GET", "http", "h", "/", []Header{{"authorization", "Bearer T"}, accept}, ""}},
		{"cookies are joined", `curl -b a=1 -b b=2 http://h`, Request{"GET", "http", "h", "/", []Header{{"cookie", "a=1; b=2"}, accept}, ""}},
		{"lines that go on", "curl 'http://h/x' \\\n  -H 'a: 1' \\\r\n  --compressed", Request{"GET", "http", "h", "/x", []Header{{"a", "1"}, accept}, ""}},
		{"a browser's quoting", `curl $'http://h/\u00fc' -H $'x: it\'s\x21'`, Request{"GET", "http", "h", "/ü", []Header{{"x", "it's!"}, accept}, ""}},
		{"what changes nothing is ignored", `/usr/bin/curl -o /dev/null -w '%{http_code}' --max-time 3 -- http://h`, Request{"GET", "http", "h", "/", []Header{accept}, ""}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := Parse(row.line)
			if err != nil {
				t.Fatalf("Parse(%q): %v", row.line, err)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", row.line, diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, row := range []struct{ name, line, want string }{
		{"nothing", "", "does not start with curl"},
		{"another program", "wget http://h", "does not start with curl"},
		{"no URL", "curl -s", "has no URL"},
		{"two URLs", "curl http://a http://b", "two URLs"},
		{"no host", "curl http:///x", "has no host"},
		{"another scheme", "curl ftp://h", "neither http nor https"},
		{"an unknown option", "curl --aws-sigv4 x http://h", "option --aws-sigv4 is not understood"},
		{"an unknown short option", "curl -Q x http://h", "option -Q is not understood"},
		{"an option without its value", "curl http://h -H", "--header lacks its value"},
		{"a header that is none", "curl -H nonsense http://h", "is no header"},
		{"a header file", "curl -H @f http://h", "reads a file"},
		{"a data file", "curl -d @f http://h", "reads a file"},
		{"a cookie file", "curl -b jar.txt http://h", "reads a file"},
		{"an open quote", "curl 'http://h", "never closed"},
		{"an open double quote", `curl "http://h`, "never closed"},
		{"a variable", "curl http://h -H \"authorization: Bearer $TOKEN\"", "not expanded here"},
		{"a command", "curl http://h/`id`", "not expanded here"},
		{"a pipe", "curl http://h | sh", "is for a shell"},
		{"a last backslash", `curl http://h \`, "ends in a backslash"},
		{"an open $'", "curl $'http://h", "never closed"},
		{"an escape that is none", `curl $'http://h/\q'`, "not understood"},
		{"a character that is none", `curl $'http://h/\Uffffffff'`, "is no character"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := Parse(row.line)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("Parse(%q) = %v, %v; want an error with %q", row.line, got, err, row.want)
			}
		})
	}
}

// FuzzParse holds that nothing panics, and that what is understood has a method, a host
// and a path.
func FuzzParse(f *testing.F) {
	f.Add("curl -sSXPOST -H 'a: b' $'http://h/\\u00fc' --data-urlencode a=b")
	f.Add("curl \"http://h\\\"\" -G -d 1")
	f.Fuzz(func(t *testing.T, line string) {
		r, err := Parse(line)
		if err == nil && (r.Method == "" || !strings.HasPrefix(r.Target, "/")) {
			t.Errorf("Parse(%q) = %+v", line, r)
		}
	})
}

// TestDeps keeps out what a parser must not need.
func TestDeps(t *testing.T) {
	forbidden := map[string]string{
		"os":       "no file is read and no variable is expanded",
		"os/exec":  "nothing is executed",
		"net/http": "nothing is sent",
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dep := range strings.Lines(string(out)) {
		if reason, bad := forbidden[strings.TrimSpace(dep)]; bad {
			t.Errorf("imports %s: %s", strings.TrimSpace(dep), reason)
		}
	}
}
