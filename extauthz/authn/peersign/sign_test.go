package peersign

import (
	"bytes"
	"encoding/base64"
	"go/build"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
)

func TestDeps(t *testing.T) {
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pkg.Imports {
		if strings.HasPrefix(path, "github.com/gatehouse-authz/") {
			t.Errorf("peersign imports %s: clients import this package, and nothing else of ours", path)
		}
	}
}

// TestRFC9421VectorB25 is the example of appendix B.2.5: hmac-sha256 over the test
// request of B.2.
func TestRFC9421VectorB25(t *testing.T) {
	secret, err := base64.StdEncoding.DecodeString("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
	if err != nil {
		t.Fatal(err)
	}
	message := Message{Method: "POST", Scheme: "https", Authority: "example.com", Target: "/foo?param=Value&Pet=dog", Field: func(name string) []string {
		return map[string][]string{"date": {"Tue, 20 Apr 2021 02:07:55 GMT"}, "content-type": {"application/json"}}[name]
	}}
	inputs, err := httpsfv.UnmarshalDictionary([]string{`sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"`})
	if err != nil {
		t.Fatal(err)
	}
	member, _ := inputs.Get("sig-b25")
	base, err := Base(member.(httpsfv.InnerList), message)
	if err != nil {
		t.Fatal(err)
	}
	want := `"date": Tue, 20 Apr 2021 02:07:55 GMT
"@authority": example.com
"content-type": application/json
"@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"`
	if base != want {
		t.Errorf("Base = %s, want %s", base, want)
	}
	if got := base64.StdEncoding.EncodeToString(MAC(secret, base)); got != "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=" {
		t.Errorf("MAC = %s", got)
	}
}

// TestComponents are the examples of RFC 9421 §2.2, and what is refused.
func TestComponents(t *testing.T) {
	message := Message{Method: "POST", Scheme: "HTTPS", Authority: "WWW.Example.com:443", Target: "/path?param=value&foo=bar&baz=batman", Field: func(name string) []string {
		return map[string][]string{"x-one": {" a  b "}, "x-two": {"a", " b, c"}, "x-empty": {""}, "x-fold": {"a\r\n b"}}[name]
	}}
	for _, tt := range []struct {
		component, want string // "": an error
	}{
		{"@method", "POST"},
		{"@target-uri", "https://www.example.com/path?param=value&foo=bar&baz=batman"},
		{"@authority", "www.example.com"},
		{"@scheme", "https"},
		{"@request-target", "/path?param=value&foo=bar&baz=batman"},
		{"@path", "/path"},
		{"@query", "?param=value&foo=bar&baz=batman"},
		{"x-one", "a  b"},
		{"x-two", "a, b, c"},
		{"x-absent", ""},
		{"x-fold", ""},
		{"@status", ""},
		{"@query-param", ""},
		{"@signature-params", ""},
		{"X-One", ""},
		{"x one", ""},
		{"", ""},
	} {
		base, err := Base(httpsfv.InnerList{Items: []httpsfv.Item{httpsfv.NewItem(tt.component)}}, message)
		got, _, _ := strings.Cut(base, "\n")
		if want := `"` + tt.component + `": ` + tt.want; tt.want != "" && got != want || (err == nil) != (tt.want != "") {
			t.Errorf("%q: %q, %v, want %q", tt.component, got, err, tt.want)
		}
	}
	twice := httpsfv.InnerList{Items: []httpsfv.Item{httpsfv.NewItem("@method"), httpsfv.NewItem("@method")}}
	if base, err := Base(twice, message); err == nil {
		t.Errorf("a component twice gives %q", base)
	}
	for _, parameter := range []string{"req", "bs", "sf", "tr", "key"} {
		item := httpsfv.NewItem("x-one")
		item.Params = httpsfv.NewParams()
		item.Params.Add(parameter, true)
		if base, err := Base(httpsfv.InnerList{Items: []httpsfv.Item{item}}, message); err == nil {
			t.Errorf("a component with %s gives %q", parameter, base)
		}
	}
	if base, err := Base(httpsfv.InnerList{Items: []httpsfv.Item{httpsfv.NewItem(7)}}, message); err == nil {
		t.Errorf("a component that is a number gives %q", base)
	}
	for authority, want := range map[string]string{"a.example": "a.example", "A.example:443": "a.example", "a.example:80": "a.example:80", "a.example:8443": "a.example:8443", "[::1]:443": "[::1]", "[::1]": "[::1]"} {
		m := Message{Scheme: "https", Authority: authority}
		if got := m.authority(); got != want {
			t.Errorf("authority of %q = %q, want %q", authority, got, want)
		}
		m.WithPort, m.Target = true, "/x"
		withPort := want
		if !hasPort(want) {
			withPort += ":443"
		}
		if got, err := m.component("@target-uri"); err != nil || got != "https://"+withPort+"/x" {
			t.Errorf("@target-uri of %q with its port = %q, %v", authority, got, err)
		}
	}
}

func TestTransport(t *testing.T) {
	type seen struct {
		header http.Header
		body   string
	}
	arrived := make(chan seen, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- seen{r.Header, string(body)}
	}))
	defer server.Close()
	client := &http.Client{Transport: &Transport{Signer: &Signer{KeyID: "cluster", Secret: []byte("abc"),
		Now: func() time.Time { return time.Unix(1764000000, 0) }, Nonce: func() string { return "n" }}}}
	for _, body := range []string{"", "hello"} {
		request, err := http.NewRequest("POST", server.URL+"/x?y=%2F", bytes.NewBufferString(body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		got := <-arrived
		if got.body != body {
			t.Errorf("the body arrived as %q, want %q", got.body, body)
		}
		want := `sig1=("@method" "@target-uri" "content-digest");created=1764000000;keyid="cluster";alg="hmac-sha256";nonce="n"`
		if got.header.Get("Signature-Input") != want || !strings.HasPrefix(got.header.Get("Signature"), "sig1=:") || !strings.HasPrefix(got.header.Get("Content-Digest"), "sha-256=:") {
			t.Errorf("the header arrived as %v", got.header)
		}
		if request.Header.Get("Signature") != "" {
			t.Error("the caller's request was changed")
		}
	}
	if rand24() == rand24() {
		t.Error("two nonces are the same")
	}
	incomplete := &Signer{KeyID: "cluster"}
	if err := incomplete.Sign(httptest.NewRequest("GET", "https://a.example/", nil)); err == nil {
		t.Error("a signer without a secret signs")
	}
}
