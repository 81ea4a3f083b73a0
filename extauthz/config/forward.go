package config

import (
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/mint"
	"github.com/gatehouse-authz/gatehouse/policy"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// defaultTokenTTL is how long an identity token is good unless the file says otherwise.
const defaultTokenTTL = 60e9 // nanoseconds

// ownedHeader is a header that the file sets or removes, where it is first named.
type ownedHeader struct {
	name string
	at   policy.Position
}

// forwards are the forward blocks of a file and what they own together.
type forwards struct {
	owned  map[string]ownedHeader // by folded name
	shared map[string]*extauthz.Forward
}

// buildForward reads the file's own forward block.
func (b *builder) buildForward() {
	b.forwards = forwards{owned: map[string]ownedHeader{}, shared: map[string]*extauthz.Forward{}}
	in := setting{what: "forward", refs: policy.RefsInForward}
	b.gate.Forward = b.forward(b.config.GetForward(), in, true)
	if m := b.config.GetForward(); m.GetCredentials() == "pass" {
		b.errorf(b.pos.field(m, "credentials"), "write it on the public routes that need it", "credentials cannot pass on every route")
	}
}

// forward reads one forward block. In the file's own, {path.x} is checked against
// all routes later.
func (b *builder) forward(m *configv1.Forward, in setting, everywhere bool) *extauthz.Forward {
	f := &extauthz.Forward{KeepOverrides: m.GetRequestOverrides() == "keep", Credentials: credentialModes[m.GetCredentials()]}
	for _, name := range slices.Sorted(maps.Keys(m.GetHeaders())) {
		value := m.GetHeaders()[name]
		at := b.pos.mapKey(m, "headers", name)
		if !b.own(at, name) {
			continue
		}
		template, err := policy.ParseTemplate(value.GetValue(), in.refs)
		if err != nil {
			b.syntax(value, "value", nil, err)
			continue
		}
		template.At = b.pos.field(value, "value")
		for _, parameter := range template.Names(policy.RefPath) {
			if everywhere {
				b.somewhere(template.At, parameter)
			} else {
				b.hasParameter(template.At, parameter, in)
			}
		}
		for _, attribute := range template.Names(policy.RefPrincipal) {
			if !b.isSettable(attribute) {
				b.warnf(ruleUnset, template.At, b.attributeRemedy(attribute), "header %s is never set: no authenticator or grant can set attribute %s", quote(name), quote(attribute))
			}
		}
		f.Headers = append(f.Headers, extauthz.Header{Name: name, Value: template, JSON: value.GetList() == "json"})
	}
	for i, name := range m.GetRemove() {
		at := b.pos.item(m, "remove", i)
		if _, both := m.GetHeaders()[name]; both {
			b.errorf(at, "keep one of the two", "header %s is both set and removed", quote(name))
		} else if b.own(at, name) {
			f.Remove = append(f.Remove, name)
		}
	}
	if token := m.GetIdentityToken(); token != nil {
		f.Token = b.identityToken(token, f)
	}
	return f
}

var credentialModes = map[string]extauthz.Credentials{"": extauthz.Strip, "strip": extauthz.Strip, "keep": extauthz.Keep, "pass": extauthz.Pass}

// own checks the name of a header that the file sets or removes. Two names that an
// upstream may fold into one do not load: one would be the other's forgery.
func (b *builder) own(at policy.Position, name string) bool {
	switch {
	case name != strings.ToLower(name):
		b.errorf(at, "write "+quote(strings.ToLower(name)), "header %s is not in lower case", quote(name))
		return false
	case !isToken(name):
		b.errorf(at, "use letters, digits and dashes", "%s cannot be the name of a header", quote(name))
		return false
	case isReservedHeader(name):
		b.errorf(at, "choose another name", "header %s belongs to HTTP or to the proxy", quote(name))
		return false
	}
	folded := foldHeader(name)
	if other, taken := b.forwards.owned[folded]; taken && other.name != name {
		b.errorf(at, "choose names that differ in more than - _ and .", "header %s and %s (line %d) are one header to many upstreams", quote(name), quote(other.name), other.at.Line)
		return false
	}
	if _, taken := b.forwards.owned[folded]; !taken {
		b.forwards.owned[folded] = ownedHeader{name, at}
	}
	return true
}

// foldHeader is the one form of the names that upstreams take for one.
func foldHeader(name string) string { return strings.NewReplacer("_", "-", ".", "-").Replace(name) }

// reservedHeaders cannot be identity headers: HTTP or the proxy gives them their meaning.
var reservedHeaders = map[string]bool{
	"host": true, "cookie": true, "connection": true, "te": true, "upgrade": true, "content-length": true,
	"transfer-encoding": true, "expect": true, "keep-alive": true, "proxy-connection": true, "trailer": true,
}

func isReservedHeader(name string) bool {
	folded := foldHeader(strings.ToLower(name))
	return reservedHeaders[folded] || strings.HasPrefix(name, ":") ||
		strings.HasPrefix(folded, "x-forwarded-") || strings.HasPrefix(folded, "x-envoy-")
}

// isToken says whether text is a token (RFC 9110 §5.6.2).
func isToken(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// somewhere checks that a route has the parameter that the file's forward names:
// on the others the header is removed.
func (b *builder) somewhere(at policy.Position, parameter string) {
	for _, m := range b.config.GetRoutes() {
		for _, text := range m.GetMatch() {
			if strings.Contains(text, "{"+parameter+"}") || strings.Contains(text, "{"+parameter+"...}") {
				return
			}
		}
	}
	b.errorf(at, "name a parameter that a pattern has", "no route has a pattern with {%s}", parameter)
}

// routeForward is what a route forwards: the file's, unless it says otherwise.
func (b *builder) routeForward(m *configv1.Route, r *policy.Route, in setting) *extauthz.Forward {
	base := b.gate.Forward
	if m.GetForward() != nil {
		in.refs = policy.RefsInForward
		base = b.forward(m.GetForward(), in, false)
	}
	if m.GetCredentials() != "" || m.GetIdentityToken() != nil {
		base = b.adjusted(base, m, in)
	}
	if base.Credentials == extauthz.Pass && !r.Public {
		at := b.pos.field(m, "credentials")
		if m.GetCredentials() == "" {
			at = b.pos.field(m.GetForward(), "credentials")
		}
		b.errorf(at, "write keep, which forwards what was verified", "%s is not public, so credentials cannot pass unverified", in.what)
	}
	for _, header := range base.Headers {
		for _, parameter := range header.Value.Names(policy.RefPath) {
			r.UsesPath = r.UsesPath || slices.ContainsFunc(r.Patterns, func(p policy.Pattern) bool { return p.HasParam(parameter) })
		}
	}
	b.checkToken(m, r, base, in)
	return base
}

// adjusted is base with what a route changes of it. Routes that change the same
// share the result.
func (b *builder) adjusted(base *extauthz.Forward, m *configv1.Route, in setting) *extauthz.Forward {
	override := m.GetIdentityToken()
	key, _ := proto.MarshalOptions{Deterministic: true}.Marshal(&configv1.Route{Credentials: m.GetCredentials(), IdentityToken: override})
	if m.GetForward() == nil {
		if shared := b.forwards.shared[string(key)]; shared != nil {
			return shared
		}
	}
	changed := *base
	if m.GetCredentials() != "" {
		changed.Credentials = credentialModes[m.GetCredentials()]
	}
	if override != nil {
		if base.Token == nil {
			b.errorf(b.pos.field(m, "identity_token"), "add forward.identity_token to the file", "%s changes an identity token that does not exist", in.what)
			return base
		}
		token := *base.Token
		if override.GetAudience() != "" {
			token.Audience = override.GetAudience()
		}
		if override.GetTtl() != nil {
			token.TTL = override.GetTtl().AsDuration()
		}
		changed.Token = &token
	}
	if m.GetForward() == nil {
		b.forwards.shared[string(key)] = &changed
	}
	return &changed
}

// anyAudience says whether tokens of a route may be without an audience.
func (b *builder) anyAudience(m *configv1.Route) bool {
	if own := m.GetForward().GetIdentityToken(); own != nil {
		return own.GetAnyAudience()
	}
	return b.config.GetForward().GetIdentityToken().GetAnyAudience()
}

// checkToken checks what a route mints, and what it keeps beside.
func (b *builder) checkToken(m *configv1.Route, r *policy.Route, f *extauthz.Forward, in setting) {
	if f.Token == nil || r.Forbid {
		return
	}
	at := b.pos.of(m)
	for _, owner := range []proto.Message{m.GetIdentityToken(), m.GetForward().GetIdentityToken(), b.config.GetForward().GetIdentityToken()} {
		if node := b.pos.fieldNode(owner, "audience"); node != nil {
			at = b.pos.node(node)
			break
		}
	}
	switch {
	case f.Token.Audience == "" && b.anyAudience(m):
	case f.Token.Audience == "" && !b.isTainted(b.config):
		b.errorf(b.pos.of(m), "give forward.identity_token an audience, or the route one of its own; `any_audience: true` if its upstreams expect none", "the identity token of %s has no audience", in.what)
	case strings.Contains(f.Token.Audience, "{host}"):
		for i := range r.Patterns {
			if p := &r.Patterns[i]; !p.HostIsLiteral() {
				b.errorf(at, "give each pattern a host, or the route an audience of its own", "the audience would be whatever host a client sends: pattern %s of %s (line %d) has no literal host", quote(p.String()), in.what, p.At.Line)
				return
			}
		}
		if len(r.Patterns) == 0 {
			b.errorf(at, "give the route an audience of its own", "the audience would be whatever host a client sends: %s has no pattern", in.what)
		}
	}
	if f.Credentials == extauthz.Strip {
		return
	}
	for _, p := range b.parts {
		if r.Accept != nil && !slices.Contains(r.Accept, p.config.GetName()) {
			continue
		}
		for _, place := range p.entry.Places {
			if place.Kind == authn.InHeader && place.Name == f.Token.Header {
				b.errorf(at, "strip the credential, or give the token a header of its own", "%s puts both the credential and the identity token into header %s", in.what, quote(place.Name))
				return
			}
		}
	}
}

// identityToken reads how tokens are minted, keys included.
func (b *builder) identityToken(m *configv1.IdentityToken, f *extauthz.Forward) *extauthz.IdentityToken {
	t := &extauthz.IdentityToken{Header: strings.ToLower(m.GetHeader()), Scheme: m.GetScheme(), Audience: m.GetAudience(), TTL: defaultTokenTTL}
	if t.Header == "" {
		t.Header = "authorization"
	}
	if t.Header == "authorization" && t.Scheme == "" {
		t.Scheme = "Bearer"
	}
	if m.GetTtl() != nil {
		t.TTL = m.GetTtl().AsDuration()
	}
	if t.Scheme != "" && !isToken(t.Scheme) {
		b.errorf(b.pos.field(m, "scheme"), "write one word, as Bearer", "%s cannot be a scheme", quote(t.Scheme))
	}
	if rest := strings.ReplaceAll(t.Audience, "{host}", ""); strings.ContainsAny(rest, "{}") {
		b.errorf(b.pos.field(m, "audience"), "only {host} can be used", "the audience has an unknown reference")
	}
	if slices.ContainsFunc(f.Headers, func(h extauthz.Header) bool { return h.Name == t.Header }) {
		b.errorf(b.pos.of(m), "give the token a header of its own", "header %s is an identity header as well", quote(t.Header))
	}
	b.own(b.pos.field(m, "header"), t.Header)
	before := len(b.errors)
	made := mint.Config{Issuer: m.GetIssuer(), Claims: m.GetClaims(), Bind: m.GetBind()}
	if made.Ring = b.storedRing(m); made.Ring == nil {
		made.Keys = b.signingKeys(m)
	}
	if len(b.errors) > before || b.isTainted(m) {
		return t
	}
	minter, err := mint.New(made)
	if err != nil {
		b.errorf(b.pos.of(m), "", "the identity token cannot be made: %v", err)
		return t
	}
	t.Minter = minter
	return t
}

// storedRing is the signing keys of the store; nil where the file gives keys, or there
// is no store to keep them.
func (b *builder) storedRing(m *configv1.IdentityToken) *mint.Ring {
	if len(m.GetKeys()) > 0 || m.GetSharedSecret() != nil || m.GetAlgorithm() == "HS256" || b.store == nil {
		if m.GetRotateEvery() != nil {
			b.errorf(b.pos.field(m, "rotate_every"), "add a store and give no keys, or remove the line", "only keys that the store keeps are rotated")
		}
		return nil
	}
	if b.config.GetStore().GetHashKey() == nil {
		b.warnf(ruleWeak, b.pos.of(m), "give store.hash_key", "the keys that sign identity tokens are kept in the store unencrypted")
	}
	ring := b.store.ring(algorithmOf(m))
	every := mint.DefaultRotation
	if m.GetRotateEvery() != nil {
		every = m.GetRotateEvery().AsDuration()
	}
	if other, twice := b.rings[ring]; twice && other != every {
		b.errorf(b.pos.of(m), "give both the same rotate_every", "two identity tokens share the keys of %s and rotate them differently", algorithmOf(m))
	}
	if b.rings == nil {
		b.rings = map[*mint.Ring]time.Duration{}
	}
	b.rings[ring] = every
	return ring
}

func algorithmOf(m *configv1.IdentityToken) string {
	if m.GetAlgorithm() == "" {
		return "ES256"
	}
	return m.GetAlgorithm()
}

// signingKeys reads the keys, or makes one in memory.
func (b *builder) signingKeys(m *configv1.IdentityToken) []mint.Key {
	symmetric := m.GetAlgorithm() == "HS256"
	switch {
	case symmetric && len(m.GetKeys()) > 0:
		b.errorf(b.pos.field(m, "keys"), "give shared_secret instead", "HS256 has a shared secret, not key files")
		return nil
	case symmetric && m.GetSharedSecret() == nil:
		b.errorf(b.pos.field(m, "algorithm"), "give shared_secret: {env: NAME}", "HS256 needs a shared secret")
		return nil
	case !symmetric && m.GetSharedSecret() != nil:
		b.errorf(b.pos.field(m, "shared_secret"), "write algorithm: HS256, or give keys instead", "a shared secret is for HS256")
		return nil
	case symmetric:
		return b.sharedKey(m)
	case len(m.GetKeys()) == 0:
		return b.memoryKey(m)
	}
	var keys []mint.Key
	for _, k := range m.GetKeys() {
		data := b.file(k, "file", k.GetFile())
		if data == nil {
			continue
		}
		key, err := mint.ParseKey(k.GetId(), data)
		if err != nil {
			b.errorf(b.pos.field(k, "file"), "", "%v", err)
			continue
		}
		if len(keys) == 0 && m.GetAlgorithm() != "" && key.Algorithm != m.GetAlgorithm() {
			b.errorf(b.pos.field(k, "file"), "remove algorithm, or give a key of its kind", "the first key signs with %s, not %s", key.Algorithm, m.GetAlgorithm())
		}
		keys = append(keys, key)
	}
	return keys
}

func (b *builder) sharedKey(m *configv1.IdentityToken) []mint.Key {
	secret, ok := b.secret(m.GetSharedSecret(), false)
	if !ok {
		return nil
	}
	key, weak, err := mint.SecretKey("", []byte(secret.Reveal()))
	if err != nil {
		b.errorf(b.pos.field(m, "shared_secret"), "", "%v", err)
		return nil
	}
	if weak {
		b.warnf(ruleWeak, b.pos.field(m, "shared_secret"), "use at least 32 random bytes (RFC 7518 §3.2)", "the shared secret of the identity token has %d bytes and can be guessed from a token", len(secret.Reveal()))
	}
	return []mint.Key{key}
}

// memoryKey goes on with the key that was made before, if there is one: tokens that
// are out stay good across a reload.
func (b *builder) memoryKey(m *configv1.IdentityToken) []mint.Key {
	b.warnf(ruleWeak, b.pos.of(m), "give keys: [{file: key.pem}], or a store", "identity tokens are signed with a key in memory, which other replicas do not know and a restart forgets")
	algorithm := algorithmOf(m)
	if b.memory == nil {
		b.memory = map[string]mint.Key{}
	}
	key, ok := b.memory[algorithm]
	if !ok {
		var err error
		if key, err = mint.GenerateKey(algorithm); err != nil {
			b.errorf(b.pos.of(m), "", "%v", err)
			return nil
		}
		b.memory[algorithm] = key
	}
	return []mint.Key{key}
}
