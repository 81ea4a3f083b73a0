package config

import (
	"html/template"
	"net/url"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// signInReferences are what the URL of sign_in may refer to.
var signInReferences = []string{"{host}", "{request_uri}", "{url}"}

func (b *builder) buildSignIn() {
	hosts := map[string]int{}
	for _, m := range b.config.GetSignIn() {
		entry := extauthz.SignIn{URL: m.GetUrl(), Navigations: m.GetFor() == "navigations"}
		for i, host := range m.GetHosts() {
			at := b.pos.item(m, "hosts", i)
			request, _, ok := policy.ParseRequest("GET", host, "/", policy.PathOptions{})
			switch {
			case !ok || request.Host != host:
				b.errorf(at, "write the exact name in lower case, without port", "%s is not a host", quote(host))
			case hosts[host] > 0:
				b.errorf(at, "keep one of the two", "host %s has two entries (first in line %d)", quote(host), hosts[host])
			}
			hosts[host] = at.Line
			entry.Hosts = append(entry.Hosts, host)
		}
		b.checkSignInURL(m)
		b.gate.SignIn = append(b.gate.SignIn, entry)
	}
}

func (b *builder) checkSignInURL(m *configv1.SignIn) {
	rest := m.GetUrl()
	for _, reference := range signInReferences {
		rest = strings.ReplaceAll(rest, reference, "x")
	}
	u, err := url.Parse(rest)
	switch {
	case rest == "":
	case strings.ContainsAny(rest, "{}"):
		b.errorf(b.pos.field(m, "url"), "only "+strings.Join(signInReferences, ", ")+" can be used", "the URL has an unknown reference")
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil:
		b.errorf(b.pos.field(m, "url"), "write https://{host}/login?to={request_uri}", "%s is not an absolute URL", quote(m.GetUrl()))
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		b.warnf(ruleWeak, b.pos.field(m, "url"), "write https://", "browsers are sent to sign in without encryption")
	}
	if strings.Contains(m.GetUrl(), "{request_uri}") || strings.Contains(m.GetUrl(), "{url}") {
		if host, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(m.GetUrl(), "https://"), "http://"), "/"); strings.Contains(host, "{request_uri}") || strings.Contains(host, "{url}") {
			b.errorf(b.pos.field(m, "url"), "use them after the path", "the client would choose the host that browsers are sent to")
		}
	}
}

// checkSignInTargets asks the table about each place that browsers are sent to: one
// that is not public would send them on to itself for ever.
func (b *builder) checkSignInTargets() {
	if b.gate.Table == nil {
		return
	}
	listed := map[string]bool{}
	for _, entry := range b.gate.SignIn {
		for _, host := range entry.Hosts {
			listed[host] = true
		}
	}
	for i, entry := range b.gate.SignIn {
		m := b.config.GetSignIn()[i]
		for _, host := range entry.Hosts {
			target, err := url.Parse(strings.NewReplacer("{host}", host, "{request_uri}", "%2F", "{url}", "%2F").Replace(entry.URL))
			if err != nil || !listed[target.Hostname()] {
				continue
			}
			path := target.EscapedPath()
			if path == "" {
				path = "/"
			}
			request, _, ok := policy.ParseRequest("GET", target.Hostname(), path, b.gate.Paths)
			if match := b.gate.Table.Match(&request); !ok || match.Route == nil || !match.Route.Public {
				b.errorf(b.pos.field(m, "url"), `add a route {match: ["GET `+target.Hostname()+path+`"], public: true}`, "browsers would be sent to %s for ever: no public route covers GET %s%s", quote(path), target.Hostname(), path)
				break
			}
		}
	}
}

func (b *builder) buildAnswers() {
	m := b.config.GetAnswers()
	b.gate.Answers = extauthz.Answers{Contact: m.GetContact(), Documentation: m.GetDocumentation()}
	if u, err := url.Parse(m.GetDocumentation()); m.GetDocumentation() != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		b.errorf(b.pos.field(m, "documentation"), "write https://host/path", "%s is not a URL", quote(m.GetDocumentation()))
	}
	if data := b.file(m, "html_template_file", m.GetHtmlTemplateFile()); data != nil {
		page, err := template.New("page").Parse(string(data))
		if err == nil {
			err = page.Execute(&strings.Builder{}, extauthz.Page{})
		}
		if err != nil {
			b.errorf(b.pos.field(m, "html_template_file"), "", "the template cannot be used: %v", err)
		}
		b.gate.Answers.Page = page
	}
	if anonymous := b.config.GetAnonymous(); anonymous != nil {
		b.gate.AnonymousTenant = anonymous.GetTenant()
		if w := b.config.GetTenancy().GetWildcard(); w != "" && w == anonymous.GetTenant() {
			b.errorf(b.pos.field(anonymous, "tenant"), "name a tenant", "the anonymous tenant cannot be the wildcard")
		}
	}
}

// buildLimits reads the limits. Each is checked against what would stop everything.
func (b *builder) buildLimits() {
	m := b.config.GetLimits()
	b.gate.Limits = extauthz.Limits{
		MessageBytes: b.size(m, "message_bytes", m.GetMessageBytes(), 1<<10, 256<<20),
		HeaderBytes:  b.size(m, "header_bytes", m.GetHeaderBytes(), 1<<10, 16<<20),
		Concurrent:   b.count(m, "concurrent", m.GetConcurrent()),
		Queue:        b.count(m, "queue", m.GetQueue()),
	}
	b.token = b.size(m, "token_bytes", m.GetTokenBytes(), 256, authn.MaxTokenBytes)
}

// maxCount bounds how many requests may be worked on or wait.
const maxCount = 1 << 20

func (b *builder) count(m proto.Message, field string, n uint32) int {
	if n > maxCount {
		b.errorf(b.pos.field(m, field), "write at most 1048576", "%d requests at once are too many", n)
	}
	return int(min(n, maxCount))
}
