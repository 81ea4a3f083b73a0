package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// jwt checks a jwt block.
func (b *builder) jwt(p *part, m *configv1.Jwt) func() (made, error) {
	p.entry.Kind = authn.KindJWT
	p.entry.Places = b.places(m.GetFrom(), bearer)
	before := len(b.errors)
	b.checkIssuer(m)
	b.checkAudience(m)
	b.checkAlgorithms(m)
	secret, ca, keys := b.keySource(p, m)
	mapping := b.mapping(p, m.GetPrincipal())
	require := b.require(p, m.GetRequire())
	var claim authn.KeyClaimOptions
	hasClaim, ready := m.GetApiKeyClaim() != nil, true
	if hasClaim {
		claim, ready = b.keyClaim(p, m.GetApiKeyClaim())
	}
	if len(b.errors) > before || b.isTainted(m) || !ready {
		return nil
	}
	options := authn.JWTOptions{
		Issuer: m.GetIssuer(), AnyIssuer: m.GetAnyIssuer(),
		Audiences: m.GetAudiences(), AllAudiences: m.GetAudienceMatch() == "all", AnyAudience: m.GetAnyAudience(),
		Algorithms: m.GetAlgorithms(), Types: m.GetTypes(),
		Leeway: m.GetLeeway().AsDuration(), MaxLifetime: m.GetMaxLifetime().AsDuration(),
		RequireKeyID: m.GetKeys().GetRequireKid(), Require: require,
		SharedSecret: secret, Map: mapping.Principal, MaxTokenBytes: b.token, CacheKeys: b.shared.cacheKeys,
	}
	return func() (made, error) {
		if m.GetSharedSecret() == nil {
			set, err := authn.NewKeySet(authn.KeySetOptions{
				Issuer: discoveryIssuer(m), DiscoveryURL: m.GetDiscoveryUrl(), JWKSURL: m.GetJwksUrl(), JWKSFile: keys,
				Algorithms: m.GetAlgorithms(), CAPEM: ca,
				Refresh: m.GetKeys().GetRefresh().AsDuration(), UnknownKeyInterval: m.GetKeys().GetUnknownKidInterval().AsDuration(),
				StaleFor: staleFor(m.GetKeys()), Timeout: m.GetKeys().GetTimeout().AsDuration(),
				MaxBytes: int64(bytesOf(m.GetKeys().GetMaxBytes())),
			})
			if err != nil {
				return made{}, err
			}
			options.Keys = set
		}
		if !hasClaim {
			return verifying(authn.NewJWT(options))
		}
		claim.JWT = options
		verifier, err := authn.NewKeyClaim(claim)
		if err != nil {
			return made{}, err
		}
		token, err := verifying(verifier.Token(), nil)
		return made{verifier, token.start, token.close}, err
	}
}

// verifying is a JWT authenticator with its keys, which are fetched in the background.
func verifying(j *authn.JWT, err error) (made, error) {
	if err != nil {
		return made{}, err
	}
	m := made{authenticator: j, close: j.Close}
	if keys := j.Keys(); keys != nil {
		m.start = keys.Start
	}
	return m, nil
}

// staleFor tells the zero that was written from none at all: the default is an hour.
func staleFor(m *configv1.Keys) time.Duration {
	if m.GetStaleFor() != nil && m.GetStaleFor().AsDuration() == 0 {
		return -1
	}
	return m.GetStaleFor().AsDuration()
}

// discoveryIssuer is the issuer whose document tells the keys; "" where another
// source does.
func discoveryIssuer(m *configv1.Jwt) string {
	if m.GetJwksUrl() != "" || m.GetJwksFile() != "" {
		return ""
	}
	return m.GetIssuer()
}

func (b *builder) checkIssuer(m *configv1.Jwt) {
	explicit := m.GetJwksUrl() != "" || m.GetJwksFile() != "" || m.GetSharedSecret() != nil
	switch {
	case m.GetAnyIssuer() && m.GetIssuer() != "":
		b.errorf(b.pos.field(m, "any_issuer"), "keep one of the two", "any_issuer and issuer are both given")
	case m.GetAnyIssuer() && !explicit:
		b.errorf(b.pos.field(m, "any_issuer"), "give jwks_url, jwks_file or shared_secret", "any_issuer needs keys that do not come from an issuer")
	case !m.GetAnyIssuer() && m.GetIssuer() == "" && m.GetDiscoveryUrl() == "" && !b.isTainted(m):
		b.errorf(b.pos.of(m), "give issuer, or discovery_url whose document names it, or any_issuer: true with keys of its own", "the issuer is missing")
	case m.GetIssuer() != "" && m.GetDiscoveryUrl() == "" && !explicit:
		b.remoteURL(m, "issuer", m.GetIssuer())
	}
	b.remoteURL(m, "discovery_url", m.GetDiscoveryUrl())
	b.remoteURL(m, "jwks_url", m.GetJwksUrl())
}

func (b *builder) checkAudience(m *configv1.Jwt) {
	switch {
	case m.GetAnyAudience() && len(m.GetAudiences()) > 0:
		b.errorf(b.pos.field(m, "any_audience"), "keep one of the two", "any_audience and audiences are both given")
	case !m.GetAnyAudience() && len(m.GetAudiences()) == 0 && !b.isTainted(m):
		b.errorf(b.pos.of(m), "give audiences: [...], or any_audience: true if tokens for anybody shall count", "the audience is missing")
	case m.GetAudienceMatch() != "" && m.GetAnyAudience():
		b.errorf(b.pos.field(m, "audience_match"), "remove one of the two", "audience_match says nothing with any_audience")
	}
}

func (b *builder) checkAlgorithms(m *configv1.Jwt) {
	for i, name := range m.GetAlgorithms() {
		symmetric := strings.HasPrefix(name, "HS")
		switch {
		case symmetric && m.GetSharedSecret() == nil:
			b.errorf(b.pos.item(m, "algorithms", i), "remove it, or give shared_secret instead of published keys", "%s needs a shared secret: a published key would let everybody sign", name)
		case !symmetric && m.GetSharedSecret() != nil:
			b.errorf(b.pos.item(m, "algorithms", i), "write HS256, HS384 or HS512", "%s cannot be used with a shared secret", name)
		}
	}
}

// keySource checks that keys come from one place, and reads what is local.
func (b *builder) keySource(p *part, m *configv1.Jwt) (secret authn.Secret, ca []byte, file string) {
	var given []string
	for _, source := range []struct {
		field string
		set   bool
	}{{"discovery_url", m.GetDiscoveryUrl() != ""}, {"jwks_url", m.GetJwksUrl() != ""}, {"jwks_file", m.GetJwksFile() != ""}, {"shared_secret", m.GetSharedSecret() != nil}} {
		if source.set {
			given = append(given, source.field)
		}
	}
	if len(given) > 1 {
		b.errorf(b.pos.field(m, given[1]), "keep one", "keys come from %s", list(given))
	}
	if m.GetKeys() != nil && m.GetSharedSecret() != nil {
		b.errorf(b.pos.field(m, "keys"), "remove the block", "keys is about published keys, and these tokens have a shared secret")
	}
	if m.GetSharedSecret() != nil {
		var ok bool
		if secret, ok = b.secret(m.GetSharedSecret(), false); ok {
			p.depends("shared_secret", []byte(secret.Reveal()))
		}
	}
	if ca = b.certificates(m.GetKeys(), "ca_file", m.GetKeys().GetCaFile()); ca != nil {
		p.depends("ca_file", ca)
	}
	if m.GetJwksFile() != "" {
		file = b.files.resolve(m.GetJwksFile())
		p.depends("jwks_file", b.file(m, "jwks_file", m.GetJwksFile()))
	}
	return secret, ca, file
}

// dependsOnVariables notes the variables that an expression may read.
func (b *builder) dependsOnVariables(p *part, expression string) {
	for _, name := range slices.Sorted(maps.Keys(b.exprs.variables)) {
		if strings.Contains(expression, name) {
			p.depends(name, []byte(b.exprs.variables[name]))
		}
	}
}

func (b *builder) require(p *part, all []*configv1.Require) []authn.Requirement {
	var list []authn.Requirement
	for _, m := range all {
		compiled := b.exprs.predicate(m.GetExpression())
		if compiled.bad != nil {
			b.expression(m, "expression", compiled.bad)
			continue
		}
		b.dependsOnVariables(p, m.GetExpression())
		list = append(list, authn.Requirement{Expression: compiled.expression, Message: m.GetMessage()})
	}
	return list
}

// mapping reads how claims become a principal. The subject is `sub` unless the file
// says otherwise.
func (b *builder) mapping(p *part, m *configv1.PrincipalMapping) *authn.Mapping {
	mapping := &authn.Mapping{
		Stamp:    b.stamp(p.config),
		Subject:  b.field(p, "subject", m.GetSubject()),
		Username: b.field(p, "username", m.GetUsername()),
		Tenant:   b.field(p, "tenant", m.GetTenant()),
		Roles:    b.field(p, "roles", m.GetRoles()),
		Scopes:   b.field(p, "scopes", m.GetScopes()),
	}
	if m.GetSubject() == nil {
		mapping.Subject = &authn.Field{Claim: "sub", Required: true}
	} else if mapping.Subject != nil && m.GetSubject().Required == nil {
		mapping.Subject.Required = true
	}
	if len(m.GetAttributes()) > 0 {
		mapping.Attributes = map[string]*authn.Field{}
	}
	for _, name := range slices.Sorted(maps.Keys(m.GetAttributes())) {
		mapping.Attributes[name] = b.field(p, "attribute", m.GetAttributes()[name])
	}
	if p.config.GetUnscoped() && m.GetScopes() != nil {
		b.warnf(ruleNoEffect, b.pos.field(m, "scopes"), "remove the line, or unscoped: true", "the scopes have no effect: authenticator %s is unscoped", quote(p.config.GetName()))
	}
	return mapping
}

func (b *builder) field(p *part, name string, m *configv1.Mapping) *authn.Field {
	if m == nil {
		return nil
	}
	f := &authn.Field{
		Claim: m.GetClaim(), Path: m.GetPath(), Value: m.GetValue(),
		KeepUnmapped: m.GetUnmapped() == "keep", Default: m.GetDefault(),
		Required: m.GetRequired(), IgnoreWrongType: m.GetOnWrongType() == "ignore",
		List: listModes[m.GetList()],
	}
	from := map[string]int{}
	for _, r := range m.GetMap() {
		if line := from[r.GetFrom()]; line > 0 {
			b.errorf(b.pos.field(r, "from"), "keep one of the two", "%s is replaced twice (first in line %d)", quote(r.GetFrom()), line)
		}
		from[r.GetFrom()] = b.pos.field(r, "from").Line
		f.Map = append(f.Map, authn.Rename{From: r.GetFrom(), To: r.GetTo()})
	}
	if m.GetUnmapped() != "" && len(f.Map) == 0 {
		b.errorf(b.pos.field(m, "unmapped"), "give map, or remove the line", "unmapped says nothing without map")
	}
	if single := name == "subject" || name == "username" || name == "tenant"; single {
		if m.GetList() != "" {
			b.errorf(b.pos.field(m, "list"), "remove the line", "field %s is one value, not a list", quote(name))
		}
		if len(m.GetDefault()) > 1 {
			b.errorf(b.pos.item(m, "default", 1), "keep one", "field %s is one value, not a list", quote(name))
		}
	}
	if m.GetExpression() != "" {
		compiled := b.exprs.value(m.GetExpression())
		if compiled.bad != nil {
			b.expression(m, "expression", compiled.bad)
			return f
		}
		f.Expression = compiled.expression
		b.dependsOnVariables(p, m.GetExpression())
	}
	return f
}

var listModes = map[string]authn.ListMode{
	"": authn.ListAuto, "auto": authn.ListAuto, "json": authn.ListJSON, "space": authn.ListSpace, "comma": authn.ListComma,
}

// bytesOf reads a size as the schema allows it; 0 for none.
func bytesOf(text string) int {
	for _, unit := range []struct {
		suffix string
		bytes  int
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}} {
		if digits, ok := strings.CutSuffix(text, unit.suffix); ok {
			n, err := strconv.Atoi(digits)
			if err != nil || n > maxSizeBytes/unit.bytes {
				return maxSizeBytes
			}
			return n * unit.bytes
		}
	}
	return 0
}

// maxSizeBytes is the largest size that can be written.
const maxSizeBytes = 1 << 40

// size reads a size within bounds.
func (b *builder) size(m proto.Message, field, text string, least, most int) int {
	n := bytesOf(text)
	if n != 0 && (n < least || n > most) {
		b.errorf(b.pos.field(m, field), fmt.Sprintf("write %s to %s", sizeText(least), sizeText(most)), "%s is out of bounds", quote(text))
	}
	return n
}

func sizeText(n int) string {
	switch {
	case n >= 1<<20:
		return strconv.Itoa(n>>20) + "MiB"
	case n >= 1<<10:
		return strconv.Itoa(n>>10) + "KiB"
	}
	return strconv.Itoa(n) + "B"
}
