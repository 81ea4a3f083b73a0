package authn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// Principals of certificates are kept by name: their number is bounded by what the
// mesh has, but its size is not ours to trust.
const (
	certificateEntries = 1 << 12
	certificateFor     = time.Hour
)

// A CertificateRule says whom certificates with a principal like Match authenticate.
type CertificateRule struct {
	Match *PrincipalPattern

	// Principal is a pattern of whom: its texts may hold `{name}` for the parameters of
	// Match. Its subject defaults to the certificate's principal.
	Principal policy.Principal
}

// MTLS takes the client certificate of the connection, as Envoy has verified it: its
// URI SAN (a SPIFFE ID), other SAN or subject.
type MTLS struct {
	stamp Stamp
	rules []CertificateRule
	keys  *CacheKeys
	known *Cache[*Identity]
}

// NewMTLS checks rules, of which the first that matches counts.
func NewMTLS(stamp Stamp, rules []CertificateRule) (*MTLS, error) {
	if len(rules) == 0 {
		return nil, errors.New("there is no pattern, so that no certificate would be good")
	}
	for _, rule := range rules {
		for _, text := range texts(&rule.Principal) {
			if err := checkReferences(*text, rule.Match); err != nil {
				return nil, fmt.Errorf("pattern %q: %w", rule.Match, err)
			}
		}
	}
	return &MTLS{stamp: stamp, rules: rules, keys: NewCacheKeys(), known: NewCache[*Identity](certificateEntries)}, nil
}

// Presented tells whether the connection has a client certificate.
func (m *MTLS) Presented(in *Input) bool { return in.Request.SourcePrincipal != "" }

// Authenticate implements [Authenticator].
func (m *MTLS) Authenticate(_ context.Context, in *Input) Result {
	principal := in.Request.SourcePrincipal
	if principal == "" {
		return Refuse(policy.ReasonNoCredential, nil)
	}
	key := m.keys.Key(principal)
	if identity, ok := m.known.Get(key, in.Now); ok {
		return Result{Identity: identity}
	}
	for i := range m.rules {
		values, ok := m.rules[i].Match.Match(principal)
		if !ok {
			continue
		}
		p, err := m.fill(&m.rules[i], values)
		if err != nil {
			return Refuse(policy.ReasonCertificateUnmatched, err)
		}
		if p.Subject == "" {
			p.Subject = principal
		}
		identity := &Identity{Principal: m.stamp.Principal(p)}
		m.known.Put(key, identity, in.Now.Add(certificateFor), in.Now)
		return Result{Identity: identity}
	}
	return Refuse(policy.ReasonCertificateUnmatched, nil)
}

// fill puts the parameters into the principal of rule.
func (m *MTLS) fill(rule *CertificateRule, values map[string]string) (policy.Principal, error) {
	var pairs []string
	for name, value := range values {
		pairs = append(pairs, "{"+name+"}", value)
	}
	references := strings.NewReplacer(pairs...) // in one pass: a value with braces refers to nothing
	p := clone(rule.Principal)
	for _, text := range texts(&p) {
		*text = references.Replace(*text)
	}
	if w := m.stamp.Wildcard; w != "" && p.Tenant == w && rule.Principal.Tenant != w && !m.stamp.WildcardClaims {
		return policy.Principal{}, fmt.Errorf("filling in the tenant: %w", errWildcard)
	}
	return p, nil
}

// clone copies p with everything that texts gives.
func clone(p policy.Principal) policy.Principal {
	p.Roles = append([]string(nil), p.Roles...)
	p.Scopes = append([]string(nil), p.Scopes...)
	if p.Attributes != nil {
		attributes := make(map[string]policy.Attribute, len(p.Attributes))
		for name, a := range p.Attributes {
			a.Values = append([]string(nil), a.Values...)
			attributes[name] = a
		}
		p.Attributes = attributes
	}
	return p
}

// texts are the places of all texts of p that may hold references.
func texts(p *policy.Principal) []*string {
	all := []*string{&p.Subject, &p.Username, &p.Tenant}
	for i := range p.Roles {
		all = append(all, &p.Roles[i])
	}
	for i := range p.Scopes {
		all = append(all, &p.Scopes[i])
	}
	for _, a := range p.Attributes {
		for i := range a.Values {
			all = append(all, &a.Values[i])
		}
	}
	return all
}

// checkReferences tells whether each `{name}` in text is a parameter of pattern.
func checkReferences(text string, pattern *PrincipalPattern) error {
	for rest := text; ; {
		_, after, found := strings.Cut(rest, "{")
		if !found {
			return nil
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed || !pattern.Has(name) {
			return fmt.Errorf("%q refers to {%s}, which the pattern does not have", text, name)
		}
		rest = tail
	}
}
