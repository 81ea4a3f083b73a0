package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/curl"
	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/record"
	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/serve"
	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/story"
	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
	decisionv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/decision/v1"
)

// keysTimeout is how long an offline command waits for the keys of issuers.
const keysTimeout = 5 * time.Second

// maxCheckRequest bounds what is read of a CheckRequest, in bytes.
const maxCheckRequest = 16 << 20

// A question collects the flags that describe a request.
type question struct {
	config                   string
	method, host, path       string
	scheme, source, identity string
	headers, context         []string
	principal                string
	curl, checkRequest       string
	record                   string
	recorded                 *decisionv1.Decision // what --record names, once call has read it
}

// requestFlags adds the flags that check and explain share.
func (q *question) requestFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&q.config, "config", "c", "", "the configuration `file`")
	flags.StringVar(&q.method, "method", "GET", "the request's `method`")
	flags.StringVar(&q.host, "host", "localhost", "the request's `host`")
	flags.StringVar(&q.path, "path", "", "the request's `path`, with its query")
	flags.StringVar(&q.scheme, "scheme", "https", "http or https")
	flags.StringArrayVarP(&q.headers, "header", "H", nil, "a `header`, \"name: value\"; may be repeated")
	flags.StringArrayVar(&q.context, "context", nil, "a context extension, `name=value`; may be repeated")
	flags.StringVar(&q.source, "source", "", "the IP `address` of the client")
	flags.StringVar(&q.identity, "source-principal", "", "the `name` in the client's certificate, such as a SPIFFE ID")
	flags.StringVar(&q.principal, "principal", "", "who makes the request, in the place of a credential: `key=value,...` with\nauthenticator, realm, issuer, subject, username, tenant, roles, scopes,\nunscoped, token_id, attributes.NAME; a key that is repeated makes a list")
}

// call makes the call that the flags describe.
func (q *question) call(cmd *cobra.Command, stdin io.Reader) (*extauthz.Call, error) {
	var call *extauthz.Call
	var err error
	switch {
	case q.emptyForm(cmd) != "":
		return nil, usagef("--%s is empty: is a variable not set?", q.emptyForm(cmd))
	case given(q.curl, q.checkRequest, q.record) > 1:
		return nil, usagef("--curl, --check-request and --record describe several requests: give one")
	case q.curl != "":
		call, err = curlCall(q.curl)
	case q.checkRequest != "":
		call, err = readCheckRequest(q.checkRequest, stdin)
	case q.record != "":
		var recorded *decisionv1.Decision
		recorded, err = record.Read(record.Location(q.record))
		if errors.Is(err, record.ErrNoRecord) {
			return nil, &usageError{err}
		}
		if err == nil {
			q.recorded = recorded
			call = record.Call(recorded)
		}
	case q.path == "":
		return nil, usagef("--path is missing")
	case q.path[0] != '/' && q.path != "*":
		return nil, usagef("invalid --path %q: a path starts with a slash; the host belongs into --host", shortened(q.path))
	default:
		call = &extauthz.Call{HTTP: true, Method: q.method, Host: q.host, Target: q.path, Scheme: q.scheme}
	}
	if err != nil {
		return nil, err
	}
	if given(q.curl, q.checkRequest, q.record) > 0 {
		for _, name := range []string{"method", "host", "path", "scheme"} {
			if cmd.Flags().Changed(name) {
				return nil, usagef("--%s beside --curl, --check-request or --record: change it there", name)
			}
		}
	}
	return call, q.addTo(call)
}

// emptyForm names the flag that should hold a request and is empty; "" if none is.
func (q *question) emptyForm(cmd *cobra.Command) string {
	for _, form := range []struct{ name, value string }{{"curl", q.curl}, {"check-request", q.checkRequest}, {"record", q.record}} {
		if cmd.Flags().Changed(form.name) && form.value == "" {
			return form.name
		}
	}
	return ""
}

// given counts the texts that are not empty.
func given(texts ...string) (n int) {
	for _, text := range texts {
		if text != "" {
			n++
		}
	}
	return n
}

// addTo adds what may stand beside any form of request.
func (q *question) addTo(call *extauthz.Call) error {
	for _, h := range q.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return usagef("invalid --header %q: write name: value", shortened(h))
		}
		call.Headers = append(call.Headers, policy.Pair{Name: strings.ToLower(strings.TrimSpace(name)), Value: strings.TrimSpace(value)})
	}
	for _, c := range q.context {
		name, value, ok := strings.Cut(c, "=")
		if !ok || name == "" {
			return usagef("invalid --context %q: write name=value", c)
		}
		call.Context = append(call.Context, policy.Pair{Name: name, Value: value})
	}
	if q.source != "" {
		addr, err := netip.ParseAddr(q.source)
		if err != nil {
			return usagef("invalid --source %q: give an IP address", q.source)
		}
		call.Source = addr.Unmap()
	}
	if q.identity != "" {
		call.SourcePrincipal = q.identity
	}
	return nil
}

// shortened is for error messages, which a credential must not end up in.
func shortened(h string) string {
	if len(h) > 20 {
		return h[:20] + "…"
	}
	return h
}

func curlCall(line string) (*extauthz.Call, error) {
	r, err := curl.Parse(line)
	if err != nil {
		return nil, usagef("reading the curl line: %w", err)
	}
	call := &extauthz.Call{HTTP: true, Method: r.Method, Host: r.Host, Target: r.Target, Scheme: r.Scheme, Body: []byte(r.Body)}
	for _, h := range r.Headers {
		call.Headers = append(call.Headers, policy.Pair{Name: strings.ToLower(h.Name), Value: h.Value})
	}
	return call, nil
}

// readCheckRequest reads JSON, as grpcurl takes it, or the serialized message in base64.
func readCheckRequest(file string, stdin io.Reader) (*extauthz.Call, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("reading the CheckRequest: %w", err)
		}
		defer f.Close()
		stdin = f
	}
	content, err := io.ReadAll(io.LimitReader(stdin, maxCheckRequest+1))
	if err != nil {
		return nil, fmt.Errorf("reading the CheckRequest: %w", err)
	}
	if len(content) > maxCheckRequest {
		return nil, usagef("the CheckRequest is over %d MiB", maxCheckRequest>>20)
	}
	if message, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(content))); err == nil && len(message) > 0 {
		return extauthz.DecodeCheck(message), nil
	}
	request := &authv3.CheckRequest{}
	if err := protojson.Unmarshal(content, request); err != nil {
		return nil, usagef("reading the CheckRequest: it is not the JSON of envoy.service.auth.v3.CheckRequest: %w", err)
	}
	return extauthz.NewCall(request), nil
}

// standIn makes the principal of --principal; nil without.
func (q *question) standIn(loaded *config.Loaded) (*policy.Principal, error) {
	if q.principal == "" {
		return q.recordedPrincipal(loaded), nil
	}
	p := &policy.Principal{}
	for pair := range strings.SplitSeq(q.principal, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, usagef("invalid --principal: %q is not key=value", pair)
		}
		if err := setPrincipal(p, strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
			return nil, err
		}
	}
	return p, complete(p, loaded)
}

// recordedPrincipal is the principal of --record; nil without.
func (q *question) recordedPrincipal(loaded *config.Loaded) *policy.Principal {
	if q.recorded == nil {
		return nil
	}
	p := record.Principal(q.recorded)
	// The record has the tenant that a wildcard caller acted for.
	if t := loaded.Gate.Tenancy; p != nil && p.Wildcard && t != nil {
		p.Tenant = t.Wildcard
	}
	return p
}

func setPrincipal(p *policy.Principal, key, value string) error {
	single := map[string]*string{
		"authenticator": &p.Authenticator, "realm": &p.Realm, "issuer": &p.Issuer, "subject": &p.Subject,
		"username": &p.Username, "tenant": &p.Tenant, "token_id": &p.TokenID,
	}
	list := map[string]*[]string{"roles": &p.Roles, "scopes": &p.Scopes}
	name, isAttribute := strings.CutPrefix(key, "attributes.")
	switch {
	case single[key] != nil:
		if *single[key] != "" {
			return usagef("invalid --principal: %s is given twice", key)
		}
		*single[key] = value
	case list[key] != nil:
		*list[key] = append(*list[key], value)
	case key == "unscoped":
		unscoped, err := strconv.ParseBool(value)
		if err != nil {
			return usagef("invalid --principal: unscoped is %q, give true or false", value)
		}
		p.Unscoped = unscoped
	case isAttribute && name != "":
		if p.Attributes == nil {
			p.Attributes = map[string]policy.Attribute{}
		}
		a := p.Attributes[name]
		a.List = len(a.Values) > 0
		a.Values = append(a.Values, value)
		p.Attributes[name] = a
	default:
		return usagef("invalid --principal: unknown key %q", key)
	}
	return nil
}

// complete fills in what an authenticator would have.
func complete(p *policy.Principal, loaded *config.Loaded) error {
	set := loaded.Gate.Set
	if set == nil {
		return usagef("--principal stands in for a credential, and the configuration has no authenticators")
	}
	if p.Authenticator == "" {
		if len(set.Entries()) > 1 {
			var names []string
			for _, e := range set.Entries() {
				names = append(names, e.Name)
			}
			return usagef("invalid --principal: say which authenticator=... vouches for it: %s", strings.Join(names, ", "))
		}
		p.Authenticator = set.Entries()[0].Name
	}
	entry := set.Entry(p.Authenticator)
	if entry == nil {
		return usagef("invalid --principal: there is no authenticator %q", p.Authenticator)
	}
	if p.Realm == "" {
		p.Realm = entry.Realm
	}
	if t := loaded.Gate.Tenancy; t != nil && t.Wildcard != "" {
		p.Wildcard = p.Tenant == t.Wildcard
	}
	return nil
}

// load loads a configuration, or prints what is wrong with it.
func (p *program) load(path string) (*config.Loaded, error) {
	if path == "" {
		return nil, usagef("--config is missing")
	}
	loaded, report := config.Load(path, p.env, nil)
	if loaded == nil {
		fmt.Fprint(p.err, report)
		return nil, errRefused
	}
	return loaded, loaded.Improvise()
}

// ask decides what the flags describe. Keys of issuers are fetched only where a
// credential could need them.
func (p *program) ask(cmd *cobra.Command, q *question) (*story.Story, error) {
	call, err := q.call(cmd, p.in)
	if err != nil {
		return nil, err
	}
	loaded, err := p.load(q.config)
	if err != nil {
		return nil, err
	}
	defer loaded.Close()
	principal, err := q.standIn(loaded)
	if err != nil {
		return nil, err
	}
	if principal == nil && len(call.Headers) > 0 {
		loaded.Start()
		ctx, cancel := context.WithTimeout(cmd.Context(), keysTimeout)
		serve.WaitForKeys(ctx, loaded.Gate.Set)
		serve.WaitForStore(ctx, loaded.Store)
		loaded.WaitForSigningKeys(ctx)
		cancel()
	}
	told, err := story.Ask(cmd.Context(), loaded.Gate, story.Question{Call: call, Principal: principal, Now: time.Now()})
	if errors.Is(err, story.ErrAuthenticator) {
		return nil, &usageError{err}
	}
	if err == nil && q.recorded != nil {
		told.Recorded = newRecorded(q.recorded)
	}
	return told, err
}

// newRecorded is what explain says of a record beside what it finds today.
func newRecorded(d *decisionv1.Decision) *story.Recorded {
	return &story.Recorded{
		ID: d.GetId(), Time: d.GetTime().AsTime().Format(time.RFC3339Nano), Hash: d.GetSnapshot(),
		Outcome: d.GetOutcome(), Reason: d.GetReason(), Route: d.GetRoute(), Position: d.GetPosition(),
	}
}

// colourful tells whether to use colours on out: it is a terminal, and NO_COLOR is unset
// (no-color.org).
func (p *program) colourful() bool {
	f, ok := p.out.(*os.File)
	if v, set := p.env("NO_COLOR"); set && v != "" {
		return false
	}
	return ok && term.IsTerminal(int(f.Fd()))
}
