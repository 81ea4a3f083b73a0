package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// part is one authenticator on its way from the file into the set.
type part struct {
	config   *configv1.Authenticator
	entry    authn.Entry
	instance *instance // nil if it was reported

	// digest is everything that the instance is made of: its block, the secrets and
	// files that it reads, and what it takes from elsewhere in the file. An instance
	// with an equal one goes on across a reload.
	digest [sha256.Size]byte
	inputs []string
}

// depends notes something outside its block that the authenticator is made of.
func (p *part) depends(kind string, value []byte) {
	sum := sha256.Sum256(value)
	p.inputs = append(p.inputs, kind+"="+hex.EncodeToString(sum[:]))
}

func (p *part) seal() {
	block, _ := proto.MarshalOptions{Deterministic: true}.Marshal(p.config)
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s", len(block), block)
	for _, input := range p.inputs {
		fmt.Fprintf(h, "%d:%s", len(input), input)
	}
	h.Sum(p.digest[:0])
}

func (b *builder) buildAuthenticators() {
	before, first := len(b.errors), map[string]*configv1.Authenticator{}
	for _, a := range b.config.GetAuthenticators() {
		if other := first[a.GetName()]; other != nil && a.GetName() != "" {
			b.errorf(b.pos.field(a, "name"), "give it another name", "two authenticators are called %s (first in line %d)", quote(a.GetName()), b.pos.field(other, "name").Line)
		}
		first[a.GetName()] = a
		b.parts = append(b.parts, b.newPart(a))
	}
	for _, stage := range []func(*configv1.Authenticator) bool{isBase, isKeyClaim, isExchange} {
		for _, p := range b.parts {
			if stage(p.config) {
				b.buildInstance(p)
			}
		}
	}
	incomplete := slices.ContainsFunc(b.parts, func(p *part) bool { return b.isTainted(p.config) })
	if len(b.errors) == before && !incomplete {
		b.buildSet()
	}
}

// Some authenticators work with another one, which is made before them: API keys in
// claims with the keys, exchanges with the verifier of what comes back.
func isKeyClaim(a *configv1.Authenticator) bool { return a.GetJwt().GetApiKeyClaim() != nil }
func isExchange(a *configv1.Authenticator) bool {
	return a.GetClientCredentials() != nil || a.GetRefreshToken() != nil
}
func isBase(a *configv1.Authenticator) bool { return !isKeyClaim(a) && !isExchange(a) }

// newPart reads what all kinds have in common.
func (b *builder) newPart(a *configv1.Authenticator) *part {
	p := &part{config: a, entry: authn.Entry{
		Name: a.GetName(), Realm: realmOf(a), TryInTurn: a.GetTryInTurn(), Impersonate: a.GetImpersonate(),
	}}
	for _, origin := range a.GetOnlyFrom() {
		p.entry.OnlyFrom = append(p.entry.OnlyFrom, b.origin(origin))
	}
	if a.GetWildcard() && b.config.GetTenancy().GetWildcard() == "" {
		b.warnf(ruleNoEffect, b.pos.field(a, "wildcard"), "add tenancy: {wildcard: \"*\"}, or remove the line", "there is no wildcard without tenancy")
	}
	if a.GetImpersonate() && b.config.GetTenancy().GetUsernameHeader() == "" {
		b.warnf(ruleNoEffect, b.pos.field(a, "impersonate"), "add tenancy: {username_header: x-username}, or remove the line", "nobody can be named without tenancy.username_header")
	}
	if strings.ContainsAny(p.entry.Realm, "\"\\") || !isVisible(p.entry.Realm) {
		b.errorf(b.pos.field(a, "realm"), "use visible ASCII characters without quotes and backslashes", "realm %s cannot be part of a challenge", quote(p.entry.Realm))
	}
	p.depends("stamp", fmt.Appendf(nil, "%+v", b.stamp(a)))
	p.depends("token_bytes", fmt.Append(nil, b.token))
	return p
}

func isVisible(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

func (b *builder) origin(m *configv1.Origin) authn.Origin {
	origin := authn.Origin{}
	for i, text := range m.GetSources() {
		if text == "" {
			continue // the schema said so
		}
		if prefix, ok := parsePrefix(text); ok {
			origin.Sources = append(origin.Sources, prefix)
		} else {
			b.errorf(b.pos.item(m, "sources", i), "write an address or a network as 10.0.0.0/8", "%s is not a network", quote(text))
			origin.Sources = append(origin.Sources, netip.Prefix{})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.GetContext())) {
		origin.Context = append(origin.Context, policy.Pair{Name: name, Value: m.GetContext()[name]})
	}
	for i, text := range m.GetPrincipals() {
		if text == "" {
			continue // the schema said so
		}
		pattern, err := authn.ParsePrincipalPattern(text)
		if err != nil {
			b.errorf(b.pos.item(m, "principals", i), "write it as spiffe://cluster.local/ns/{namespace}/sa/gateway", "%s is not a pattern of certificate names: %v", quote(text), err)
			continue
		}
		origin.Principals = append(origin.Principals, pattern)
	}
	if len(m.GetSources())+len(m.GetContext())+len(m.GetPrincipals()) == 0 && !b.isTainted(m) {
		b.errorf(b.pos.of(m), "give sources, context or principals", "a place of only_from has no condition")
	}
	return origin
}

func (b *builder) stamp(a *configv1.Authenticator) authn.Stamp {
	return authn.Stamp{
		Authenticator: a.GetName(), Realm: realmOf(a), Unscoped: a.GetUnscoped(),
		Wildcard: b.config.GetTenancy().GetWildcard(), WildcardClaims: a.GetWildcard(),
	}
}

// places are where credentials are found; otherwise is the default of the kind.
func (b *builder) places(from []*configv1.From, otherwise authn.Place) []authn.Place {
	if len(from) == 0 {
		return []authn.Place{otherwise}
	}
	var places []authn.Place
	for _, f := range from {
		place := authn.Place{Kind: authn.InHeader, Name: strings.ToLower(f.GetHeader()), Scheme: f.GetScheme()}
		field := "header"
		switch {
		case f.GetCookie() != "":
			place, field = authn.Place{Kind: authn.InCookie, Name: f.GetCookie()}, "cookie"
		case f.GetQuery() != "":
			place, field = authn.Place{Kind: authn.InQuery, Name: f.GetQuery()}, "query"
		case f.GetHeader() == "cookie":
			b.errorf(b.pos.field(f, "header"), "write cookie: NAME", "cookies are read by their names")
		case f.GetHeader() == "":
			continue // the schema asked for one
		}
		if field != "query" && !isToken(place.Name) {
			b.errorf(b.pos.field(f, field), "use letters, digits and dashes", "%s cannot be the name of a %s", quote(place.Name), field)
		}
		if place.Scheme != "" && !isToken(place.Scheme) {
			b.errorf(b.pos.field(f, "scheme"), "write one word, as Bearer", "%s cannot be a scheme", quote(place.Scheme))
		}
		places = append(places, place)
	}
	return places
}

var bearer = authn.Place{Kind: authn.InHeader, Name: "authorization", Scheme: "Bearer"}

// buildInstance makes the authenticator, or goes on with the one that the
// configuration before had.
func (b *builder) buildInstance(p *part) {
	make := b.kind(p)
	if make == nil {
		return
	}
	p.seal()
	if before := b.reuse.instance(p); before != nil {
		p.instance = before
	} else {
		before := len(b.errors)
		result, err := make()
		if err != nil {
			for _, err := range split(err) {
				b.errorf(b.pos.of(p.config), "", "authenticator %s: %v", quote(p.config.GetName()), err)
			}
			return
		}
		if len(b.errors) > before {
			return
		}
		p.instance = newInstance(p, result)
	}
	p.entry.Authenticator = p.instance.authenticator
	p.entry.Guard = b.guard(p.config)
	if warner, ok := p.instance.authenticator.(interface{ Warnings() []string }); ok {
		for _, warning := range warner.Warnings() {
			b.warnf(ruleWeak, b.pos.of(p.config), "", "authenticator %s: %s", quote(p.config.GetName()), warning)
		}
	}
}

func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// kind checks the block of one kind, fills in the entry, and gives what makes the
// instance; nil if the block cannot be used.
func (b *builder) kind(p *part) func() (made, error) {
	switch kind := p.config.GetKind().(type) {
	case *configv1.Authenticator_Jwt:
		return b.jwt(p, kind.Jwt)
	case *configv1.Authenticator_ApiKey:
		return b.apiKey(p, kind.ApiKey)
	case *configv1.Authenticator_Basic:
		return b.basic(p, kind.Basic)
	case *configv1.Authenticator_ClientCredentials:
		return b.clientCredentials(p, kind.ClientCredentials)
	case *configv1.Authenticator_Introspection:
		return b.introspection(p, kind.Introspection)
	case *configv1.Authenticator_RefreshToken:
		return b.refreshToken(p, kind.RefreshToken)
	case *configv1.Authenticator_Lookup:
		return b.lookup(p, kind.Lookup)
	case *configv1.Authenticator_Peer:
		return b.peer(p, kind.Peer)
	case *configv1.Authenticator_Mtls:
		return b.mtls(p, kind.Mtls)
	case *configv1.Authenticator_Token:
		return b.tokenOfOurs(p, kind.Token)
	}
	return nil // the schema asked for one
}

// buildSet puts the authenticators together, unless one is missing.
func (b *builder) buildSet() {
	var entries []authn.Entry
	for _, p := range b.parts {
		if p.instance == nil {
			return
		}
		entries = append(entries, p.entry)
	}
	credentials := b.config.GetCredentials()
	if header := credentials.GetRealmHeader(); header != "" && !isToken(header) {
		b.errorf(b.pos.field(credentials, "realm_header"), "use letters, digits and dashes", "%s cannot be the name of a header", quote(header))
		return
	}
	set, err := authn.NewSet(entries, authn.Options{Combined: credentials.GetCombinedAuthorization(), RealmHeader: credentials.GetRealmHeader()})
	if err == nil {
		b.gate.Set = set
		return
	}
	for _, err := range split(err) {
		at := b.pos.field(b.config, "authenticators")
		var entry *authn.EntryError
		if errors.As(err, &entry) {
			if a := b.authenticator(entry.Entry); a != nil {
				at = b.pos.of(a)
			}
		}
		b.errorf(at, "", "%v", err)
	}
}

// apiKey checks an api_key block.
func (b *builder) apiKey(p *part, m *configv1.ApiKey) func() (made, error) {
	p.entry.Kind = authn.KindAPIKey
	p.entry.Places = b.places(m.GetFrom(), authn.Place{Kind: authn.InHeader, Name: "x-api-key"})
	before := len(b.errors)
	if len(m.GetKeys()) == 0 && !m.GetStore() && !b.isTainted(m) {
		b.errorf(b.pos.of(m), "give keys, or store: true", "authenticator %s knows no key", quote(p.config.GetName()))
	}
	ids, hashes := map[string]int{}, map[string]string{}
	var keys []authn.Key
	for _, k := range m.GetKeys() {
		if line := ids[k.GetId()]; line > 0 && k.GetId() != "" {
			b.errorf(b.pos.field(k, "id"), "give it another id", "two keys are called %s (first in line %d)", quote(k.GetId()), line)
		}
		ids[k.GetId()] = b.pos.field(k, "id").Line
		key, ok := b.key(p, k)
		if !ok {
			continue
		}
		hash := key.SHA256
		if hash == nil {
			sum := sha256.Sum256([]byte(key.Secret.Reveal()))
			hash = sum[:]
		}
		if other, twice := hashes[string(hash)]; twice {
			b.errorf(b.pos.of(k), "give each key a secret of its own", "keys %s and %s have the same secret", quote(other), quote(k.GetId()))
		}
		hashes[string(hash)] = k.GetId()
		p.depends("key", hash)
		keys = append(keys, key)
	}
	if len(b.errors) > before || b.isTainted(m) {
		return nil
	}
	if len(keys) == 0 && !m.GetStore() {
		b.warnf(ruleNoEffect, b.pos.of(m), "set the variable of one", "authenticator %s knows no key: all its secrets are optional and unset", quote(p.config.GetName()))
	}
	store := b.storedKeys(p, m)
	return func() (made, error) { return alone(authn.NewAPIKey(b.stamp(p.config), keys, store)) }
}

// key reads one key; false if it is dropped or was reported.
func (b *builder) key(p *part, m *configv1.Key) (authn.Key, bool) {
	key := authn.Key{ID: m.GetId(), Principal: b.plain(p, m.GetPrincipal())}
	switch {
	case m.GetSecret() != nil && m.GetSha256() != "":
		b.errorf(b.pos.field(m, "sha256"), "keep one of the two", "key %s has both a secret and a hash", quote(m.GetId()))
		return key, false
	case m.GetSecret() != nil:
		var ok bool
		key.Secret, ok = b.secret(m.GetSecret(), true)
		return key, ok
	case m.GetSha256() != "":
		hash, err := hex.DecodeString(m.GetSha256())
		key.SHA256 = hash
		return key, err == nil // the schema wanted 64 digits
	}
	if !b.isTainted(m) {
		b.errorf(b.pos.of(m), "give secret: {env: NAME} or sha256", "key %s has neither a secret nor a hash", quote(m.GetId()))
	}
	return key, false
}

// plain reads a principal that is written out.
func (b *builder) plain(p *part, m *configv1.PlainPrincipal) policy.Principal {
	principal := policy.Principal{
		Subject: m.GetSubject(), Username: m.GetUsername(), Tenant: m.GetTenant(),
		Roles: m.GetRoles(), Scopes: m.GetScopes(), Attributes: attributes(m.GetAttributes()),
	}
	if m.GetTenant() == "*" && b.config.GetTenancy().GetWildcard() != "*" {
		b.errorf(b.pos.field(m, "tenant"), `add tenancy: {wildcard: "*"}, or name a tenant`, `tenant "*" is the wildcard only with a tenancy block that says so`)
	}
	if p.config.GetUnscoped() && len(m.GetScopes()) > 0 {
		b.warnf(ruleNoEffect, b.pos.field(m, "scopes"), "remove them, or unscoped: true", "the scopes have no effect: authenticator %s is unscoped", quote(p.config.GetName()))
	}
	return principal
}

func attributes(m map[string]*configv1.Values) map[string]policy.Attribute {
	if len(m) == 0 {
		return nil
	}
	all := make(map[string]policy.Attribute, len(m))
	for name, values := range m {
		all[name] = policy.Attribute{Values: values.GetValues(), List: values.GetList()}
	}
	return all
}
