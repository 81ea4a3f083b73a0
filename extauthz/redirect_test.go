package extauthz

import (
	"net/url"
	"strings"
	"testing"
)

// TestSemantics28NoOpenRedirect: whatever a client asks for, it is sent to the configured
// host, and what it is to come back to is a path on its own.
func TestSemantics28NoOpenRedirect(t *testing.T) {
	w := newWorld(t)
	ask := w.asker(t)
	const html = "text/html,application/xhtml+xml,*/*;q=0.8"
	targets := []string{
		"//evil.example", `/\evil.example`, `\\evil.example`, "https:evil.example", "https://evil.example/app/", "///evil.example",
		"/\t/evil.example", "/\n/evil.example", "/%0d%0aLocation:%20//evil.example", "/%09/evil.example", "/%2f/evil.example", "/%5cevil.example",
		"/@evil.example", "/.evil.example", "/app/..//evil.example", "/app/%2e%2e/%2fevil.example", "/app;//evil.example", "/app/#//evil.example",
		"/app/?a=//evil.example", "/app/?redirect_uri=https://evil.example", "/app/?a=%0d%0aSet-Cookie:%20a=b", "/app/?a=b&redirect_uri=//evil.example#x",
		"/app/?\"><script>", "/app/é", "/app/%c3%a9", "/app/%ff", "/app/javascript:alert(1)", "javascript:alert(1)", "", "*", "?//evil.example", "/app/?",
	}
	hosts := []string{
		"ui.example.com", "UI.EXAMPLE.COM", "ui.example.com:8443", "ui.example.com.", "ui.example.com.:443", "ui.example.com@evil.example", "evil.example@ui.example.com",
		"ui.example.com:80@evil.example", "ui.example.com:evil.example", "ui.example.com/evil.example", `ui.example.com\evil.example`, "ui.example.com,evil.example", "evil.example,ui.example.com",
		"ui.example.com evil.example", "ui.example.com..", ".ui.example.com", "ui.example.com.evil.example", "ui.example.com%00.evil.example", "ui.example.com\r\nx: y", "",
	}
	redirects := 0
	for _, host := range hosts {
		for _, target := range targets {
			r := req{host: host, path: target}.with("accept", html).with("x-forwarded-host", "evil.example").with("x-forwarded-proto", "javascript").with("forwarded", "host=evil.example")
			got := ask(r)
			location, sent := got.client["location"]
			if !sent {
				if got.status < 400 && got.status != 200 {
					t.Errorf("%q %q: status %d without a Location", host, target, got.status)
				}
				continue
			}
			redirects++
			if strings.ContainsFunc(location, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' }) {
				t.Errorf("%q %q: Location %q has what browsers read in their own way", host, target, location)
			}
			to, err := url.Parse(location)
			if err != nil || to.Scheme != "https" || to.Host != "ui.example.com" || to.User != nil || to.Path != "/authenticate" || to.Fragment != "" {
				t.Errorf("%q %q: Location %q, %v", host, target, location, err)
				continue
			}
			query, err := url.ParseQuery(to.RawQuery)
			if err != nil || len(query) != 1 || len(query["redirect_uri"]) != 1 {
				t.Errorf("%q %q: Location %q has the query %v, %v", host, target, location, query, err)
				continue
			}
			// As a browser would follow it: tabs and line breaks gone, backslashes as slashes.
			back := strings.NewReplacer("\t", "", "\n", "", "\r", "", `\`, "/").Replace(query.Get("redirect_uri"))
			base := &url.URL{Scheme: "https", Host: "ui.example.com", Path: "/authenticate"}
			if followed, err := base.Parse(back); err != nil || followed.Host != "ui.example.com" || followed.Scheme != "https" || !strings.HasPrefix(back, "/") || strings.HasPrefix(back, "//") {
				t.Errorf("%q %q: it comes back to %q (%v, %v)", host, target, back, followed, err)
			}
		}
	}
	if redirects < 20 {
		t.Errorf("%d redirects: this looks at nothing", redirects)
	}
}
