package config

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// defaultCacheFor is how long the answer of a provider is kept unless the file says
// otherwise.
const defaultCacheFor = 60 * time.Second

func cacheFor(d *durationpb.Duration) time.Duration {
	if d == nil {
		return defaultCacheFor
	}
	return d.AsDuration()
}

// remote reads how a provider is called.
func (b *builder) remote(p *part, m proto.Message, timeout *durationpb.Duration, caFile string) authn.RemoteOptions {
	options := authn.RemoteOptions{Timeout: timeout.AsDuration(), CacheKeys: b.shared.cacheKeys}
	if caFile != "" {
		options.CAPEM = b.certificates(m, "ca_file", caFile)
		p.depends("ca_file", options.CAPEM)
	}
	return options
}

// clientSecret reads our secret at a provider.
func (b *builder) clientSecret(p *part, m *configv1.Secret) authn.Secret {
	secret, ok := b.secret(m, true) // without an optional one the walk dropped the authenticator
	if ok {
		p.depends("client_secret", []byte(secret.Reveal()))
	}
	return secret
}

// verifier is the jwt authenticator that verifies what a provider exchanges.
func (b *builder) verifier(p *part, m proto.Message, name string) (v authn.Verifier) {
	at := b.pos.field(m, "verify_with")
	if name == "" || !b.knownAuthenticator(at, name) {
		return v
	}
	other := b.part(name)
	switch {
	case other.config.GetJwt() == nil:
		b.errorf(at, "name a jwt authenticator", "authenticator %s is not of kind jwt", quote(name))
	case other.instance != nil: // else it was reported
		p.inputs = append(p.inputs, "verify_with="+string(other.digest[:]))
		switch a := other.instance.authenticator.(type) {
		case *authn.JWT:
			v.Issuer = a
		case *authn.KeyClaim:
			v.Issuer, v.Whole = a.Token(), a
		}
	}
	return v
}

func (b *builder) part(name string) *part {
	for _, p := range b.parts {
		if p.config.GetName() == name {
			return p
		}
	}
	return nil
}

// clientCredentials checks a client_credentials block.
func (b *builder) clientCredentials(p *part, m *configv1.ClientCredentials) func() (made, error) {
	p.entry.Kind = authn.KindClientCredentials
	p.entry.Places = b.places(m.GetFrom(), basicScheme)
	before := len(b.errors)
	options := authn.ClientCredentialsOptions{
		Stamp: b.stamp(p.config), VerifyWith: b.verifier(p, m, m.GetVerifyWith()), TokenURL: m.GetTokenUrl(),
		Scope: m.GetScope(), Remote: b.remote(p, m, m.GetTimeout(), m.GetCaFile()),
	}
	b.remoteURL(m, "token_url", m.GetTokenUrl())
	if len(b.errors) > before || b.isTainted(m) || options.VerifyWith.Issuer == nil {
		return nil
	}
	return func() (made, error) { return alone(authn.NewClientCredentials(options)) }
}

// refreshToken checks a refresh_token block.
func (b *builder) refreshToken(p *part, m *configv1.RefreshToken) func() (made, error) {
	p.entry.Kind = authn.KindRefreshToken
	p.entry.Places = b.places(m.GetFrom(), bearer)
	before := len(b.errors)
	options := authn.RefreshTokenOptions{
		Stamp: b.stamp(p.config), VerifyWith: b.verifier(p, m, m.GetVerifyWith()),
		ClientID: m.GetClientId(), ClientSecret: b.clientSecret(p, m.GetClientSecret()), RequiredScope: m.GetRequiredScope(),
		TokenURL: m.GetTokenUrl(), IntrospectionURL: m.GetIntrospectionUrl(), Remote: b.remote(p, m, m.GetTimeout(), m.GetCaFile()),
	}
	b.remoteURL(m, "token_url", m.GetTokenUrl())
	b.remoteURL(m, "introspection_url", m.GetIntrospectionUrl())
	if len(b.errors) > before || b.isTainted(m) || options.VerifyWith.Issuer == nil {
		return nil
	}
	return func() (made, error) { return alone(authn.NewRefreshToken(options)) }
}

// introspection checks an introspection block.
func (b *builder) introspection(p *part, m *configv1.Introspection) func() (made, error) {
	p.entry.Kind, p.entry.Prefix = authn.KindIntrospection, m.GetPrefix()
	p.entry.Places = b.places(m.GetFrom(), bearer)
	before := len(b.errors)
	options := authn.IntrospectionOptions{
		URL: m.GetUrl(), ClientID: m.GetClientId(), ClientSecret: b.clientSecret(p, m.GetClientSecret()),
		CacheFor: cacheFor(m.GetCacheFor()), Audiences: m.GetAudiences(), Mapping: b.mapping(p, m.GetPrincipal()),
		Remote: b.remote(p, m, m.GetTimeout(), m.GetCaFile()),
	}
	b.remoteURL(m, "url", m.GetUrl())
	if len(b.errors) > before || b.isTainted(m) {
		return nil
	}
	return func() (made, error) { return alone(authn.NewIntrospection(options)) }
}

// lookup checks a lookup block.
func (b *builder) lookup(p *part, m *configv1.Lookup) func() (made, error) {
	p.entry.Kind, p.entry.Prefix = authn.KindLookup, m.GetPrefix()
	p.entry.Places = b.places(m.GetFrom(), bearer)
	before := len(b.errors)
	options := authn.LookupOptions{
		URL: m.GetUrl(), Headers: m.GetHeaders(), CacheFor: cacheFor(m.GetCacheFor()),
		Mapping: b.mapping(p, m.GetPrincipal()), Remote: b.remote(p, m, m.GetTimeout(), m.GetCaFile()),
	}
	if m.GetPrincipal().GetSubject() == nil && options.Mapping.Username != nil {
		subject := *options.Mapping.Username // such answers have no sub
		subject.Required = true
		options.Mapping.Subject = &subject
	}
	for _, status := range m.GetRefusedStatuses() {
		options.RefusedStatuses = append(options.RefusedStatuses, int(status))
	}
	b.remoteURL(m, "url", m.GetUrl())
	if len(b.errors) > before || b.isTainted(m) {
		return nil
	}
	return func() (made, error) { return alone(authn.NewLookup(options)) }
}

// peer checks a peer block.
func (b *builder) peer(p *part, m *configv1.Peer) func() (made, error) {
	p.entry.Kind = authn.KindPeer
	before := len(b.errors)
	options := authn.PeerOptions{
		Stamp: b.stamp(p.config), RequireExpiry: m.GetRequireExpiry(), Principal: b.plain(p, m.GetPrincipal()), CacheKeys: b.shared.cacheKeys,
	}
	if m.GetSecret() != nil || len(m.GetFrom()) > 0 {
		p.entry.Places = b.places(m.GetFrom(), bearer)
	}
	if m.GetSecret() == nil && m.GetSignature() == nil && !b.isTainted(m) {
		b.errorf(b.pos.of(m), "give secret, signature or both", "authenticator %s has nothing to verify peers with", quote(p.config.GetName()))
	}
	if m.GetSecret() != nil {
		options.Secret = b.clientSecret(p, m.GetSecret())
	}
	if s := m.GetSignature(); s != nil {
		options.Signature = &authn.PeerSignatureOptions{
			KeyID: s.GetKeyId(), Secret: b.clientSecret(p, s.GetSecret()), Components: s.GetComponents(), MaxAge: s.GetMaxAge().AsDuration(), Leeway: s.GetLeeway().AsDuration(),
			Nonces: b.nonces(p),
		}
		if s.GetLeeway() != nil && options.Signature.Leeway == 0 {
			options.Signature.Leeway = -1 // none; 0 would be the default
		}
	}
	b.checkPeers(m)
	if len(b.errors) > before || b.isTainted(m) {
		return nil
	}
	return func() (made, error) {
		if m.Strict != nil && !m.GetStrict() {
			return alone(authn.NewPeer(options))
		}
		origins, err := authn.NewOrigins(m.GetPeers(), nil, m.GetResolve().AsDuration())
		if err != nil {
			return made{}, err
		}
		options.Origins = origins
		peer, err := authn.NewPeer(options)
		if err != nil {
			origins.Close()
			return made{}, err
		}
		return made{peer, origins.Start, origins.Close}, nil
	}
}

// checkPeers checks where peers come from.
func (b *builder) checkPeers(m *configv1.Peer) {
	if len(m.GetPeers()) == 0 && !m.GetAllowEmpty() && (m.Strict == nil || m.GetStrict()) && !b.isTainted(m) {
		b.errorf(b.pos.of(m), `give peers, "strict: false" if they may come from anywhere, or "allow_empty: true" if nobody shall be admitted`, "the list of peers is missing")
	}
	for i, text := range m.GetPeers() {
		one, err := authn.NewOrigins([]string{text}, nil, 0)
		if err != nil {
			b.errorf(b.pos.item(m, "peers", i), "write an address, a network or a host name", "%v", err)
			continue
		}
		one.Close()
	}
}

// basic checks a basic block.
func (b *builder) basic(p *part, m *configv1.Basic) func() (made, error) {
	p.entry.Kind, p.entry.RealmHeader = authn.KindBasic, m.GetRealmHeader()
	p.entry.Places = []authn.Place{basicScheme, {Kind: authn.InHeader, Name: "authorization", Scheme: "Plain"}}
	p.entry.Scheme = basicScheme.Scheme
	before := len(b.errors)
	if m.GetRealmHeader() != "" && !isToken(m.GetRealmHeader()) {
		b.errorf(b.pos.field(m, "realm_header"), "use letters, digits and dashes", "%s cannot be the name of a header", quote(m.GetRealmHeader()))
	}
	names := map[string]int{}
	options := authn.BasicOptions{Stamp: b.stamp(p.config), Pool: b.shared.passwords, CacheKeys: b.shared.cacheKeys}
	for _, u := range m.GetUsers() {
		if line := names[u.GetUsername()]; line > 0 {
			b.errorf(b.pos.field(u, "username"), "keep one of the two", "user %s is there twice (first in line %d)", quote(u.GetUsername()), line)
			continue
		}
		names[u.GetUsername()] = b.pos.field(u, "username").Line
		if user, ok := b.user(p, u); ok {
			options.Users = append(options.Users, user)
		}
	}
	if len(b.errors) > before || b.isTainted(m) {
		return nil
	}
	if len(options.Users) == 0 {
		b.errorf(b.pos.of(m), "set the variable of one", "authenticator %s knows nobody: all its password hashes are optional and unset", quote(p.config.GetName()))
		return nil
	}
	return func() (made, error) { return alone(authn.NewBasic(options)) }
}

// user reads one user; false if it is dropped or was reported.
func (b *builder) user(p *part, m *configv1.User) (authn.User, bool) {
	user := authn.User{Username: m.GetUsername(), PasswordHash: authn.NewSecret(m.GetPasswordHash()), Principal: b.plain(p, m.GetPrincipal())}
	field := "password_hash"
	switch {
	case m.GetPasswordHash() != "" && m.GetPasswordHashFrom() != nil:
		b.errorf(b.pos.field(m, "password_hash_from"), "keep one of the two", "user %s has password_hash and password_hash_from", quote(m.GetUsername()))
		return user, false
	case m.GetPasswordHashFrom() != nil:
		hash, ok := b.secret(m.GetPasswordHashFrom(), true)
		if !ok {
			return user, false
		}
		user.PasswordHash, field = hash, "password_hash_from"
		p.depends("password_hash", []byte(hash.Reveal()))
	case m.GetPasswordHash() == "":
		if !b.isTainted(m) {
			b.errorf(b.pos.of(m), "give password_hash, as `gatehouse hash` prints it", "user %s has no password", quote(m.GetUsername()))
		}
		return user, false
	}
	if _, err := authn.NewBasic(authn.BasicOptions{Stamp: b.stamp(p.config), Users: []authn.User{user}, Pool: b.shared.passwords, CacheKeys: b.shared.cacheKeys}); err != nil {
		problem := b.src.problem(ruleSetting, b.pos.field(m, field), err.Error(), "write what `gatehouse hash` prints")
		problem.Source = "" // it may be a password
		b.errors = append(b.errors, problem)
		return user, false
	}
	return user, true
}

// mtls checks an mtls block.
func (b *builder) mtls(p *part, m *configv1.Mtls) func() (made, error) {
	p.entry.Kind = authn.KindMTLS
	before := len(b.errors)
	var rules []authn.CertificateRule
	for _, r := range m.GetPrincipals() {
		pattern, err := authn.ParsePrincipalPattern(r.GetMatch())
		if err != nil {
			if r.GetMatch() != "" { // else the schema said so
				b.errorf(b.pos.field(r, "match"), "write spiffe://trust-domain/ns/{namespace}/sa/{account}", "%v", err)
			}
			continue
		}
		rule := authn.CertificateRule{Match: pattern, Principal: b.plain(p, r.GetPrincipal())}
		if _, err := authn.NewMTLS(b.stamp(p.config), []authn.CertificateRule{rule}); err != nil {
			b.errorf(b.pos.field(r, "principal"), "name a part of match", "%v", err)
			continue
		}
		rules = append(rules, rule)
	}
	if len(b.errors) > before || b.isTainted(m) {
		return nil
	}
	return func() (made, error) { return alone(authn.NewMTLS(b.stamp(p.config), rules)) }
}

// keyClaim makes the authenticator of a jwt block whose tokens may carry API keys.
func (b *builder) keyClaim(p *part, m *configv1.ApiKeyClaim) (options authn.KeyClaimOptions, ok bool) {
	at := b.pos.field(m, "authenticator")
	if m.GetAuthenticator() == "" || !b.knownAuthenticator(at, m.GetAuthenticator()) {
		return options, false
	}
	keys := b.part(m.GetAuthenticator())
	if keys.config.GetApiKey() == nil {
		b.errorf(at, "name an api_key authenticator", "authenticator %s is not of kind api_key", quote(m.GetAuthenticator()))
		return options, false
	}
	if keys.instance == nil {
		return options, false // reported
	}
	p.inputs = append(p.inputs, "api_key_claim="+string(keys.digest[:]))
	return authn.KeyClaimOptions{Claim: m.GetClaim(), Keys: keys.instance.authenticator, FallBack: m.GetOnInvalid() == "fall_back"}, true
}

var basicScheme = authn.Place{Kind: authn.InHeader, Name: "authorization", Scheme: "Basic"}
