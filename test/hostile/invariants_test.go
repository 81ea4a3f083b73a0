package hostile

import (
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// identity is every header that the configuration sets, and secret every header that is
// a place of credentials: on what goes on, each is set or removed.
var (
	identity = []string{"x-tenant-id", "x-tenants", "x-user", "x-subject", "x-roles", "x-department", "x-scopes"}
	secret   = []string{"authorization", "x-api-key", "x-inside-key"}
	override = []string{"x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"}
)

// invariants tells what is wrong with an answer whatever was asked.
func (a *answer) invariants() (complaints []string) {
	complain := func(what string) { complaints = append(complaints, what) }
	if a.response.GetStatus() == nil {
		complain("there is no status, which Envoy takes for permission")
	}
	if a.metadata["decision_id"] == nil || a.reason == "" || a.metadata["outcome"] == nil {
		complain("the metadata lacks the decision")
	}
	if a.response.GetErrorResponse() != nil {
		complain("an error response passes under failure_mode_allow")
	}
	ok, denied := a.response.GetOkResponse(), a.response.GetDeniedResponse()
	headers := ok.GetHeaders()
	if denied != nil {
		headers = denied.GetHeaders()
	}
	complaints = append(complaints, wellFormed(headers)...)
	if a.response.GetStatus().GetCode() == 0 {
		if denied != nil || ok == nil {
			complain("permission without an OK response")
		}
		return append(complaints, a.allowed()...)
	}
	if ok != nil || denied == nil {
		return append(complaints, "a refusal without a denied response")
	}
	return append(complaints, a.refused()...)
}

func wellFormed(headers []*corev3.HeaderValueOption) (complaints []string) {
	var seen []string
	for _, h := range headers {
		name, value := h.GetHeader().GetKey(), h.GetHeader().GetValue()
		if slices.Contains(seen, name) {
			complaints = append(complaints, "header "+name+" is there twice")
		}
		seen = append(seen, name)
		if name != strings.ToLower(name) || name == "" || strings.HasPrefix(name, ":") || name == "host" {
			complaints = append(complaints, "header "+name+" must not be set")
		}
		if h.GetAppend() == nil || h.GetAppend().GetValue() || h.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			complaints = append(complaints, "header "+name+" does not overwrite")
		}
		if value == "" || len(h.GetHeader().GetRawValue()) > 0 {
			complaints = append(complaints, "header "+name+" is empty, or raw")
		}
		for i := range len(value) {
			if value[i] < ' ' && value[i] != '\t' || value[i] > '~' {
				complaints = append(complaints, "header "+name+" holds what a header should not")
				break
			}
		}
	}
	return complaints
}

func (a *answer) allowed() (complaints []string) {
	if a.metadata["outcome"] != "allowed" {
		complaints = append(complaints, "permission, and the outcome is another")
	}
	for _, name := range slices.Concat(identity, override) {
		_, set := a.set[name]
		removed := slices.Contains(a.removed, name)
		if set == removed {
			complaints = append(complaints, "header "+name+" is not either set or removed")
		}
		if underscored := strings.ReplaceAll(name, "-", "_"); !slices.Contains(a.removed, underscored) {
			complaints = append(complaints, "header "+underscored+" is let through")
		}
	}
	for name := range a.set {
		if slices.Contains(a.removed, name) {
			complaints = append(complaints, "header "+name+" is set and removed, which removes it")
		}
	}
	if a.metadata["route"] == "login" { // credentials: pass
		return complaints
	}
	for _, name := range secret {
		if _, set := a.set[name]; set && a.metadata["route"] == "keep" {
			continue
		}
		if !slices.Contains(a.removed, name) {
			complaints = append(complaints, "credential header "+name+" reaches the upstream")
		}
	}
	return complaints
}

func (a *answer) refused() (complaints []string) {
	complain := func(what string) { complaints = append(complaints, what) }
	if a.metadata["outcome"] == "allowed" {
		complain("a refusal, and the outcome is another")
	}
	if a.replies["x-gatehouse-decision-id"] != a.metadata["decision_id"] {
		complain("the client is not told the decision's id")
	}
	if a.replies["cache-control"] != "no-store" {
		complain("the refusal may be stored")
	}
	switch a.status {
	case 401:
		if a.replies["www-authenticate"] == "" {
			complain("a 401 without a challenge (RFC 9110 §15.5.2)")
		}
	case 503:
		if a.replies["retry-after"] == "" {
			complain("a 503 without Retry-After")
		}
	case 302:
		if location := a.replies["location"]; !strings.HasPrefix(location, "https://ui.example.com/authenticate?redirect_uri=%2F") {
			complain("redirected to " + location)
		}
	case 400, 403, 404:
	default:
		complain("an odd status")
	}
	if a.reason != "" && strings.Contains(a.body, a.reason) {
		complain("the client is told the cause")
	}
	return complaints
}

// forged tells which headers of r reach the upstream although a server could take them
// for one of ours, whatever their spelling.
func (a *answer) forged(r request) (complaints []string) {
	if a.status != 200 {
		return nil
	}
	for _, h := range r.headers {
		name := strings.ToLower(h.name)
		folded := fold(name)
		taken := slices.Contains(identity, folded) || slices.Contains(override, folded) || slices.Contains(secret, folded) && a.metadata["route"] != "login"
		if _, set := a.set[name]; taken && !set && !slices.Contains(a.removed, name) {
			complaints = append(complaints, "header "+name+" is let through")
		}
		if a.set[name] == "forged" {
			complaints = append(complaints, "header "+name+" is as the client wrote it")
		}
	}
	return complaints
}

// fold is what CGI-like servers make of a header's name.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, name)
}
