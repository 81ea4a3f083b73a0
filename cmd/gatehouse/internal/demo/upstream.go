package demo

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// fromUpstream marks answers of the upstream, which Envoy's own do not have.
const fromUpstream = "X-Demo-Upstream"

// seen is what the upstream received, and what it answers.
type seen struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"` // lower-case names; repeated ones joined with ", "
}

// upstream is the service behind Envoy: it answers every request with what it saw of it.
func upstream(w http.ResponseWriter, r *http.Request) {
	s := seen{Method: r.Method, Path: r.URL.RequestURI(), Headers: map[string]string{}}
	for name, values := range r.Header {
		s.Headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(fromUpstream, "1")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(s) // the client went away: nobody is left to tell
}

// shown are the headers that a person wants to read: not those that Envoy adds to every
// request.
func (s *seen) shown() []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		switch {
		case strings.HasPrefix(name, "x-envoy-"), strings.HasPrefix(name, "x-forwarded-"),
			slices.Contains([]string{"accept", "accept-encoding", "user-agent", "x-request-id", "content-length"}, name):
		default:
			lines = append(lines, name+": "+s.Headers[name])
		}
	}
	return lines
}
