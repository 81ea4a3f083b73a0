// Package peersign signs HTTP requests as a peer of the cluster: HTTP message
// signatures (RFC 9421) with a shared secret (hmac-sha256), over the method, the
// target and the content, good once and for a short while.
//
// Go programs wrap their client's transport in a [Transport], or sign single requests
// with [Signer.Sign]. What a signature covers byte for byte is [Base], which the
// verifying side uses too; start reading there.
package peersign

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/dunglas/httpsfv"
)

// The names of the fields that carry a signature (RFC 9421 §4), in lower case.
const (
	InputField     = "signature-input"
	SignatureField = "signature"
	DigestField    = "content-digest" // RFC 9530 §2
)

// Algorithm is the one algorithm of peers (RFC 9421 §3.3.3).
const Algorithm = "hmac-sha256"

// DefaultComponents are what a signature covers unless told otherwise: without any one
// of these it could be put on another request.
var DefaultComponents = []string{"@method", "@target-uri", DigestField}

// A Message is what a request says, as far as a signature can cover it.
type Message struct {
	Method    string
	Scheme    string // http or https
	Authority string // host, with its port if any
	Target    string // path and query, as on the request line

	// WithPort has @target-uri name the scheme's default port. It is the same target,
	// and some signers write it so; we do not.
	WithPort bool

	// Field gives the lines of the header called name (lower case), in order.
	Field func(name string) []string
}

// Base is what a signature is computed over (RFC 9421 §2.5): each component that input
// lists, and input itself.
//
// Components are header fields and @method, @authority, @scheme, @target-uri,
// @request-target, @path and @query, without parameters. Any other, one that is
// listed twice and a field that is absent are errors.
func Base(input httpsfv.InnerList, m Message) (string, error) {
	var base strings.Builder
	seen := make(map[string]bool, len(input.Items))
	for _, item := range input.Items {
		name, ok := item.Value.(string)
		switch {
		case !ok:
			return "", errors.New("a component is not a string")
		case item.Params != nil && len(item.Params.Names()) > 0:
			return "", fmt.Errorf("component %q has parameters, which are not supported", name)
		case seen[name]:
			return "", fmt.Errorf("component %q is listed twice", name)
		}
		seen[name] = true
		value, err := m.component(name)
		if err != nil {
			return "", err
		}
		base.WriteString(`"` + name + `": ` + value + "\n")
	}
	if input.Params == nil {
		input.Params = httpsfv.NewParams()
	}
	params, err := httpsfv.Marshal(httpsfv.List{input})
	if err != nil {
		return "", fmt.Errorf("writing the signature parameters: %w", err)
	}
	base.WriteString(`"@signature-params": ` + params)
	return base.String(), nil
}

func (m *Message) component(name string) (string, error) {
	path, query, _ := strings.Cut(m.Target, "?")
	if path == "" {
		path = "/"
	}
	switch name {
	case "@method":
		return m.Method, nil
	case "@scheme":
		return strings.ToLower(m.Scheme), nil
	case "@authority":
		return m.authority(), nil
	case "@target-uri":
		port := ""
		if m.WithPort && !hasPort(m.authority()) {
			port = defaultPorts[strings.ToLower(m.Scheme)]
		}
		return strings.ToLower(m.Scheme) + "://" + m.authority() + port + m.Target, nil
	case "@request-target":
		return m.Target, nil
	case "@path":
		return path, nil
	case "@query":
		return "?" + query, nil
	}
	if name == "" || name[0] == '@' || name != strings.ToLower(name) || strings.ContainsAny(name, "\" \t\r\n:") {
		return "", fmt.Errorf("component %q is not supported", name)
	}
	lines := m.Field(name)
	if len(lines) == 0 {
		return "", fmt.Errorf("component %q is absent", name)
	}
	values := make([]string, len(lines))
	for i, line := range lines {
		if strings.ContainsAny(line, "\r\n") {
			return "", fmt.Errorf("component %q holds a line break", name)
		}
		values[i] = strings.Trim(line, " \t")
	}
	return strings.Join(values, ", "), nil
}

var defaultPorts = map[string]string{"http": ":80", "https": ":443"}

// authority is the host in lower case, without the scheme's default port (RFC 9421
// §2.2.3).
func (m *Message) authority() string {
	return strings.TrimSuffix(strings.ToLower(m.Authority), defaultPorts[strings.ToLower(m.Scheme)])
}

func hasPort(authority string) bool {
	return strings.LastIndexByte(authority, ':') > strings.LastIndexByte(authority, ']')
}

// requestMessage is what a client's request says.
func requestMessage(r *http.Request) Message {
	authority := r.Host
	if authority == "" {
		authority = r.URL.Host
	}
	return Message{
		Method:    r.Method,
		Scheme:    r.URL.Scheme,
		Authority: authority,
		Target:    r.URL.RequestURI(),
		Field:     func(name string) []string { return r.Header.Values(name) },
	}
}
