package extauthz

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

const (
	typeProblem = "application/problem+json"
	typeText    = "text/plain; charset=utf-8"
	typeHTML    = "text/html; charset=utf-8"

	// pagePolicy lets a page have its own style and links, and nothing else.
	pagePolicy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// writeBody writes the body of a refusal in the form that the client reads best. It
// says what the status says, and the decision's id.
func (s *Snapshot) writeBody(a *Answer, r *refusal) {
	if r.route != nil && r.route.Answers.NoBody {
		return
	}
	status := a.refusalStatus()
	switch {
	case r.client.grpc:
		a.header("content-type", typeText)
		a.body = grpcText(a.Decision.Outcome) + " (decision " + a.ID + ")"
	case r.client.looks(r.request.Method):
		a.header("content-type", typeHTML)
		a.header("content-security-policy", pagePolicy)
		a.header("x-content-type-options", "nosniff")
		a.body = s.page(a, status)
	case prefers(r.client.accept) == "text/plain":
		a.header("content-type", typeText)
		a.body = strconv.Itoa(status) + " " + statusTitle(status) + "\ndecision " + a.ID + "\n"
	default:
		a.header("content-type", typeProblem)
		a.body = s.problem(a.ID, status)
	}
	if r.request.Method == http.MethodHead && !r.client.grpc {
		a.body = "" // a HEAD is answered without one
	}
}

// grpcText is the grpc-message.
func grpcText(o policy.Outcome) string {
	switch o {
	case policy.Unauthenticated:
		return "unauthenticated"
	case policy.Malformed:
		return "malformed request"
	case policy.Unavailable:
		return "authorization is unavailable"
	}
	return "permission denied"
}

// problem writes problem details (RFC 9457). The type is about:blank: a problem that
// is its status.
func (s *Snapshot) problem(id string, status int) string {
	before, ok := s.problems[status]
	if !ok {
		before = s.problemBefore(status)
	}
	var b strings.Builder
	b.Grow(len(before) + len(id) + len(`"}`) + 1)
	b.WriteString(before)
	b.WriteString(id)
	b.WriteString("\"}\n")
	return b.String()
}

// problemBefore is a problem up to the decision's id.
func (s *Snapshot) problemBefore(status int) string {
	b := []byte(`{"type":"about:blank","title":`)
	b = appendJSONString(b, statusTitle(status))
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(status), 10)
	if s.config.Answers.Contact != "" {
		b = appendJSONString(append(b, `,"contact":`...), s.config.Answers.Contact)
	}
	if s.config.Answers.Documentation != "" {
		b = appendJSONString(append(b, `,"documentation":`...), s.config.Answers.Documentation)
	}
	return string(append(b, `,"decision_id":"`...))
}

// page writes the page for browsers. A template that fails is replaced by plain
// words rather than by half a page.
func (s *Snapshot) page(a *Answer, status int) string {
	text, ok := pageTexts[status]
	if !ok {
		text = pageTexts[http.StatusForbidden]
	}
	var b strings.Builder
	err := s.pageTemplate.Execute(&b, Page{
		Status: status, Title: statusTitle(status), Text: text, DecisionID: a.ID,
		Contact:       s.config.Answers.Contact,
		ContactURL:    contactURL(s.config.Answers.Contact),
		Documentation: s.config.Answers.Documentation,
	})
	if err != nil {
		return "<!doctype html><title>" + statusTitle(status) + "</title><p>" + statusTitle(status) + "</p><p>" + a.ID + "</p>"
	}
	return b.String()
}
