// Package curl reads a curl command line, as a person pastes it from a terminal or
// from a browser's "copy as cURL", and says which request it would send. Nothing is
// executed, no file is read and no variable is expanded. Start reading at [Parse].
package curl

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// A Request is what curl would send.
type Request struct {
	Method  string
	Scheme  string // http or https
	Host    string // with port, as written
	Target  string // path and query, not normalised beyond what curl does
	Headers []Header
	Body    string // all data, joined; empty if none
}

// A Header is one header line. Names keep their case, repeated ones stay apart.
type Header struct{ Name, Value string }

// An option of curl that changes the request. Options that do not are in ignored.
type option struct {
	value bool // takes one
	apply func(*builder, string) error
}

// builder collects what the options say.
type builder struct {
	method, url, user, bearer string
	headers                   []Header
	cookies                   []string
	data                      []string
	get, head, json, form     bool
	pathAsIs                  bool
}

var errFile = errors.New("it reads a file, which is not done here: write its content into the line")

// options are those of curl 8 that shape a request.
var options = map[string]option{
	"--request":        {true, func(b *builder, v string) error { b.method = v; return nil }},
	"--url":            {true, (*builder).setURL},
	"--header":         {true, (*builder).addHeader},
	"--user":           {true, func(b *builder, v string) error { b.user = v; return nil }},
	"--oauth2-bearer":  {true, func(b *builder, v string) error { b.bearer = v; return nil }},
	"--user-agent":     {true, func(b *builder, v string) error { return b.addHeader("user-agent: " + v) }},
	"--referer":        {true, func(b *builder, v string) error { return b.addHeader("referer: " + v) }},
	"--cookie":         {true, (*builder).addCookie},
	"--data":           {true, (*builder).addData},
	"--data-ascii":     {true, (*builder).addData},
	"--data-binary":    {true, (*builder).addData},
	"--data-raw":       {true, func(b *builder, v string) error { b.data = append(b.data, v); return nil }},
	"--data-urlencode": {true, (*builder).addEncoded},
	"--json":           {true, func(b *builder, v string) error { b.json = true; return b.addData(v) }},
	"--form":           {true, func(b *builder, _ string) error { b.form = true; return nil }},
	"--form-string":    {true, func(b *builder, _ string) error { b.form = true; return nil }},
	"--get":            {false, func(b *builder, _ string) error { b.get = true; return nil }},
	"--head":           {false, func(b *builder, _ string) error { b.head = true; return nil }},
	"--path-as-is":     {false, func(b *builder, _ string) error { b.pathAsIs = true; return nil }},
}

// short names of options, and of the ignored ones that may stand among them.
var short = map[byte]string{
	'X': "--request", 'H': "--header", 'u': "--user", 'A': "--user-agent", 'e': "--referer", 'b': "--cookie",
	'd': "--data", 'F': "--form", 'G': "--get", 'I': "--head",
	'k': "--insecure", 's': "--silent", 'S': "--show-error", 'v': "--verbose", 'L': "--location", 'i': "--include",
	'f': "--fail", 'g': "--globoff", 'N': "--no-buffer", 'O': "--remote-name", 'o': "--output", 'w': "--write-out",
	'm': "--max-time", 'x': "--proxy", 'c': "--cookie-jar", 'D': "--dump-header", '4': "--ipv4", '6': "--ipv6",
	'E': "--cert", '0': "--http1.0", '#': "--progress-bar",
}

// ignored options change how curl talks or prints, not what it asks for. The value says
// whether the option takes one.
var ignored = map[string]bool{
	"--insecure": false, "--silent": false, "--show-error": false, "--verbose": false, "--location": false,
	"--include": false, "--fail": false, "--fail-with-body": false, "--globoff": false, "--no-buffer": false,
	"--remote-name": false, "--compressed": false, "--http1.0": false, "--http1.1": false, "--http2": false,
	"--http2-prior-knowledge": false, "--http3": false, "--ipv4": false, "--ipv6": false, "--progress-bar": false,
	"--no-progress-meter": false, "--tlsv1.2": false, "--tlsv1.3": false, "--basic": false, "--no-keepalive": false,
	"--output": true, "--write-out": true, "--max-time": true, "--connect-timeout": true, "--proxy": true,
	"--cookie-jar": true, "--dump-header": true, "--cacert": true, "--cert": true, "--key": true, "--resolve": true,
	"--connect-to": true, "--unix-socket": true, "--retry": true, "--interface": true,
}

// Parse reads one command line: the word curl, its options and one URL. An option that
// it does not know is an error, since it might change the request.
func Parse(line string) (Request, error) {
	words, err := split(line)
	if err != nil {
		return Request{}, err
	}
	if len(words) == 0 || (words[0] != "curl" && !strings.HasSuffix(words[0], "/curl") && words[0] != "curl.exe") {
		return Request{}, errors.New("the line does not start with curl")
	}
	var b builder
	words = words[1:]
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		switch {
		case word == "--": // what follows are URLs
			for _, w := range words {
				if err := b.setURL(w); err != nil {
					return Request{}, err
				}
			}
			words = nil
		case strings.HasPrefix(word, "--"):
			words, err = b.long(word, words)
		case len(word) > 1 && word[0] == '-':
			words, err = b.cluster(word, words)
		default:
			err = b.setURL(word)
		}
		if err != nil {
			return Request{}, err
		}
	}
	return b.request()
}

// long applies a long option and returns the words after it and its value.
func (b *builder) long(name string, rest []string) ([]string, error) {
	takes, drop := ignored[name]
	opt, known := options[name]
	if !known && !drop {
		return nil, fmt.Errorf("option %s is not understood: leave it out if it does not change the request", name)
	}
	value := ""
	if takes || opt.value {
		if len(rest) == 0 {
			return nil, fmt.Errorf("option %s lacks its value", name)
		}
		value, rest = rest[0], rest[1:]
	}
	if drop {
		return rest, nil
	}
	if err := opt.apply(b, value); err != nil {
		return nil, fmt.Errorf("option %s: %w", name, err)
	}
	return rest, nil
}

// cluster applies short options: -sSXPOST is -s -S -X POST.
func (b *builder) cluster(word string, rest []string) ([]string, error) {
	for i := 1; i < len(word); i++ {
		name, known := short[word[i]]
		if !known {
			return nil, fmt.Errorf("option -%c is not understood: leave it out if it does not change the request", word[i])
		}
		if !ignored[name] && !options[name].value {
			if _, err := b.long(name, nil); err != nil {
				return nil, err
			}
			continue
		}
		if value := word[i+1:]; value != "" {
			rest = append([]string{value}, rest...)
		}
		return b.long(name, rest)
	}
	return rest, nil
}

func (b *builder) setURL(v string) error {
	if b.url != "" {
		return fmt.Errorf("two URLs, %q and %q: give one", b.url, v)
	}
	b.url = v
	return nil
}

// addHeader reads "Name: value"; "Name:" removes one that curl adds by itself, "Name;"
// sends it empty.
func (b *builder) addHeader(v string) error {
	if strings.HasPrefix(v, "@") {
		return errFile
	}
	name, value, ok := strings.Cut(v, ":")
	if !ok {
		empty, semicolon := strings.CutSuffix(v, ";")
		if !semicolon {
			return fmt.Errorf("%q is no header: write NAME: VALUE", v)
		}
		b.headers = append(b.headers, Header{strings.TrimSpace(empty), ""})
		return nil
	}
	value = strings.TrimSpace(value)
	if value == "" {
		return nil
	}
	b.headers = append(b.headers, Header{strings.TrimSpace(name), value})
	return nil
}

func (b *builder) addCookie(v string) error {
	if !strings.Contains(v, "=") { // curl reads a file then
		return errFile
	}
	b.cookies = append(b.cookies, v)
	return nil
}

func (b *builder) addData(v string) error {
	if strings.HasPrefix(v, "@") {
		return errFile
	}
	b.data = append(b.data, v)
	return nil
}

func (b *builder) addEncoded(v string) error {
	name, value, ok := strings.Cut(v, "=")
	if !ok {
		if strings.Contains(v, "@") {
			return errFile
		}
		name, value = "", v
	}
	encoded := strings.ReplaceAll(url.QueryEscape(value), "+", "%20")
	if name != "" {
		encoded = name + "=" + encoded
	}
	b.data = append(b.data, encoded)
	return nil
}

func (b *builder) request() (Request, error) {
	if b.url == "" {
		return Request{}, errors.New("the line has no URL")
	}
	r := Request{Method: b.method, Headers: b.headers}
	userinfo, query := b.splitURL(&r)
	if r.Host == "" {
		return Request{}, fmt.Errorf("the URL %q has no host", b.url)
	}
	if r.Scheme != "http" && r.Scheme != "https" {
		return Request{}, fmt.Errorf("the URL %q is neither http nor https", b.url)
	}
	r.Body = strings.Join(b.data, "&")
	if b.get {
		query = strings.Join(slices.DeleteFunc([]string{query, r.Body}, func(s string) bool { return s == "" }), "&")
		r.Body = ""
	}
	if query != "" {
		r.Target += "?" + query
	}
	if r.Method == "" {
		switch {
		case b.head:
			r.Method = "HEAD"
		case b.form, len(b.data) > 0 && !b.get:
			r.Method = "POST"
		default:
			r.Method = "GET"
		}
	}
	if host, ok := r.take("host"); ok {
		r.Host = host
	}
	// An explicit header wins over the option that would make one.
	if len(b.cookies) > 0 {
		r.addUnless("cookie", strings.Join(b.cookies, "; "))
	}
	if b.user == "" {
		b.user = userinfo
	}
	if b.bearer != "" {
		r.addUnless("authorization", "Bearer "+b.bearer)
	} else if b.user != "" {
		r.addUnless("authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(b.user)))
	}
	switch {
	case b.json:
		r.addUnless("content-type", "application/json")
		r.addUnless("accept", "application/json")
	case b.form:
		r.addUnless("content-type", "multipart/form-data")
	case r.Body != "":
		r.addUnless("content-type", "application/x-www-form-urlencoded")
	}
	r.addUnless("accept", "*/*")
	return r, nil
}

// splitURL reads the URL by hand: net/url would decode and refuse what curl sends.
func (b *builder) splitURL(r *Request) (userinfo, query string) {
	rest := b.url
	if before, after, ok := strings.Cut(rest, "://"); ok && !strings.ContainsAny(before, "/?#") {
		r.Scheme, rest = strings.ToLower(before), after
	} else {
		r.Scheme = "http" // curl's guess
	}
	rest, _, _ = strings.Cut(rest, "#") // never sent
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority, target := rest[:end], rest[end:]
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		userinfo, authority = authority[:at], authority[at+1:]
		if decoded, err := url.PathUnescape(userinfo); err == nil {
			userinfo = decoded
		}
	}
	r.Host = authority
	path, query, _ := strings.Cut(target, "?")
	if !b.pathAsIs {
		path = squashDots(path)
	}
	if path == "" {
		path = "/"
	}
	r.Target = path
	return userinfo, query
}

// squashDots removes dot segments, as curl does unless told --path-as-is (RFC 3986 §5.2.4).
func squashDots(path string) string {
	if !strings.Contains(path, "/.") {
		return path
	}
	var out []string
	segments := strings.Split(path, "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".":
			if last {
				out = append(out, "")
			}
		case "..":
			if len(out) > 1 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return strings.Join(out, "/")
}

// take removes a header and returns its last value.
func (r *Request) take(name string) (value string, ok bool) {
	r.Headers = slices.DeleteFunc(slices.Clone(r.Headers), func(h Header) bool {
		if strings.EqualFold(h.Name, name) {
			value, ok = h.Value, true
			return true
		}
		return false
	})
	return value, ok
}

func (r *Request) addUnless(name, value string) {
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, name) {
			return
		}
	}
	r.Headers = append(r.Headers, Header{name, value})
}
