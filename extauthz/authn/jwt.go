package authn

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unique"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
	"github.com/gatehouse-authz/gatehouse/policy"
)

const (
	// DefaultCacheEntries is how many verified tokens a [JWT] keeps: some 750 bytes
	// each with what the gate derives of them, more only where a token's claims are
	// large, so some 100 MB if ever so many callers are active within the hour. It has
	// room for 100,000 although they do not fall evenly into the shards of the cache.
	DefaultCacheEntries = 1 << 17

	// Refusals are kept for long enough that a client in a loop costs nothing, and in
	// a small cache of their own, so that no flood of them pushes out what is good.
	refusedEntries = 1 << 12
	refusedFor     = 5 * time.Second

	// signatureQueue is how many tokens may wait for a core to verify them. The gate
	// bounds how many Checks there are at all.
	signatureQueue = 1 << 16
)

// JWTOptions say which tokens a [JWT] takes and what it makes of them.
type JWTOptions struct {
	// Issuer is what iss must be, byte for byte. It may be empty where Keys are
	// discovered from a URL, and then is what the document says; else AnyIssuer says
	// that iss is not looked at.
	Issuer    string
	AnyIssuer bool

	// Audiences of which aud must hold one, or all with AllAudiences. AnyAudience says
	// that aud is not looked at.
	Audiences    []string
	AllAudiences bool
	AnyAudience  bool

	// Algorithms that tokens may be signed with; default those of Keys, or HS256 with a
	// secret.
	Algorithms []string
	Types      []string // of which header typ must be one; empty: any, and none

	Leeway         time.Duration // for the clocks of issuers
	MaxLifetime    time.Duration // from iat to exp; 0: any, and iat may be absent
	ExpiryOptional bool          // exp may be absent
	RequireKeyID   bool          // tokens without kid are refused even where one key is left

	Require []Requirement // each must be true of the claims, in order

	// Exactly one of these. Keys must be wanted for the same Algorithms.
	Keys         *KeySet
	SharedSecret Secret

	// Map makes a principal of verified claims, or gives one reason why not. It is
	// called once per token. What the token itself says (Issuer, TokenID, Expires) is
	// filled in after it.
	Map func(Claims) (*policy.Principal, policy.Reason, error)

	MaxTokenBytes int        // default [DefaultTokenBytes], at most [MaxTokenBytes]
	CacheEntries  int        // default [DefaultCacheEntries]
	CacheKeys     *CacheKeys // shared by all authenticators; nil: its own
}

// JWT verifies signed JSON Web Tokens (RFC 7515, 7519, 8725, 9068) of one issuer. It is
// an [Authenticator].
type JWT struct {
	options    JWTOptions
	algorithms []string
	types      []string // normalised
	keys       *KeySet
	secrets    map[string]*verificationKey // by algorithm, instead of keys
	warnings   []string

	cacheKeys *CacheKeys
	verified  *Cache[verifiedToken]
	refused   *Cache[*refusedToken]
	lists     lists // of principals
	flights   flights[Result]
	cores     *CorePool // of those that verify

	hits, misses, verifications atomic.Uint64
}

// verifiedToken is a good token in the cache.
type verifiedToken struct {
	identity  *Identity
	peek      unique.Handle[Peek] // few differ
	key       *verificationKey
	notBefore int64 // in microseconds since 1970, leeway included; 0: none
}

// refusedToken is a token that this key refuses.
type refusedToken struct {
	result Result
	key    *verificationKey
}

// noExpiry stands in for exp where there is none and none is required: such a token is
// verified anew after this long.
const noExpiry = time.Hour

// NewJWT checks options. The keys are the caller's to start; [JWT.Close] ends them.
func NewJWT(options JWTOptions) (*JWT, error) {
	if err := options.check(); err != nil {
		return nil, err
	}
	j := &JWT{options: options, keys: options.Keys, algorithms: options.Algorithms, cacheKeys: options.CacheKeys, cores: NewCorePool(signatureQueue)}
	if j.cacheKeys == nil {
		j.cacheKeys = NewCacheKeys()
	}
	for _, t := range options.Types {
		j.types = append(j.types, normaliseType(t))
	}
	j.verified = NewCache[verifiedToken](options.CacheEntries)
	j.refused = NewCache[*refusedToken](min(refusedEntries, options.CacheEntries))
	if options.Keys != nil {
		return j, nil
	}
	return j, j.bindSecret()
}

func (o *JWTOptions) check() error {
	secret := !o.SharedSecret.Empty()
	discovered := o.Keys != nil && o.Keys.discovery != nil
	switch {
	case (o.Keys != nil) == secret:
		return errors.New("either keys or a shared secret are needed")
	case o.Map == nil:
		return errors.New("a mapping is needed")
	case o.AnyIssuer && (o.Issuer != "" || discovered):
		return errors.New("any_issuer is for keys that belong to no issuer")
	case !o.AnyIssuer && o.Issuer == "" && !discovered:
		return errors.New("an issuer is needed, or any_issuer")
	case o.AnyAudience == (len(o.Audiences) > 0):
		return errors.New("either audiences or any_audience are needed")
	case slices.Contains(o.Audiences, ""):
		return errors.New("an audience is empty")
	case slices.Contains(o.Types, ""):
		return errors.New("a type is empty")
	case o.Leeway < 0 || o.MaxLifetime < 0:
		return errors.New("durations must not be negative")
	case o.MaxTokenBytes < 0 || o.MaxTokenBytes > MaxTokenBytes:
		return fmt.Errorf("tokens are limited to at most %d bytes", MaxTokenBytes)
	}
	if o.MaxTokenBytes == 0 {
		o.MaxTokenBytes = DefaultTokenBytes
	}
	if o.CacheEntries <= 0 {
		o.CacheEntries = DefaultCacheEntries
	}
	if len(o.Algorithms) == 0 {
		if secret {
			o.Algorithms = []string{"HS256"}
		} else {
			o.Algorithms = o.Keys.options.Algorithms
		}
	}
	for _, name := range o.Algorithms {
		a, ok := findAlgorithm(name)
		switch {
		case !ok:
			return fmt.Errorf("algorithm %q is not known", name)
		case secret && a.family != familyHMAC:
			return fmt.Errorf("algorithm %s needs keys, not a shared secret", name)
		case !secret && a.family == familyHMAC:
			return fmt.Errorf("algorithm %s needs a shared secret", name)
		}
	}
	// What a key serves depends on all that are wanted, see suitableAlgorithms.
	if !secret && !slices.Equal(slices.Sorted(slices.Values(o.Algorithms)), slices.Sorted(slices.Values(o.Keys.options.Algorithms))) {
		return errors.New("the keys are wanted for other algorithms")
	}
	return nil
}

// bindSecret makes the shared secret the key of each algorithm.
func (j *JWT) bindSecret() error {
	secret := []byte(j.options.SharedSecret.Reveal())
	j.secrets = make(map[string]*verificationKey)
	for _, name := range j.algorithms {
		a, _ := findAlgorithm(name)
		key, err := bindKey(secret, "", false, sha256.Sum256(secret), a)
		if err != nil {
			return err
		}
		j.secrets[name] = key
		if len(secret) < a.secretBytes {
			j.warnings = append(j.warnings, fmt.Sprintf(
				"the shared secret has %d bytes and can be guessed from a token; %s wants at least %d (RFC 7518 §3.2)", len(secret), name, a.secretBytes))
		}
	}
	return nil
}

// Warnings are what an operator should know though it is no error.
func (j *JWT) Warnings() []string { return j.warnings }

// Keys is the key set that j verifies with; nil with a shared secret.
func (j *JWT) Keys() *KeySet { return j.keys }

// Close ends what runs in the background.
func (j *JWT) Close() {
	if j.keys != nil {
		j.keys.Close()
	}
}

// JWTStats counts since the start.
type JWTStats struct {
	Hits          uint64 // tokens answered from the caches, good or refused
	Misses        uint64
	Verifications uint64 // signatures checked
	Cached        int    // verified tokens held now
	Refused       int    // refused tokens held now
}

// Stats is for metrics.
func (j *JWT) Stats() JWTStats {
	return JWTStats{
		Hits: j.hits.Load(), Misses: j.misses.Load(), Verifications: j.verifications.Load(),
		Cached: j.verified.Len(), Refused: j.refused.Len(),
	}
}

// normaliseType is t as types are compared: case does not matter, and application/ may
// be left out (RFC 7515 §4.1.9).
func normaliseType(t string) string {
	t = strings.ToLower(t)
	if short, ok := strings.CutPrefix(t, "application/"); ok && !strings.Contains(short, "/") {
		return short
	}
	return t
}

func (j *JWT) takesType(typ string, present bool) bool {
	return len(j.types) == 0 || present && slices.Contains(j.types, normaliseType(typ))
}

// takesIssuer tells whether tokens may say issuer.
func (j *JWT) takesIssuer(issuer string) bool {
	if j.options.Issuer != "" {
		return issuer == j.options.Issuer
	}
	if issuer == "" {
		return false
	}
	if named := j.keys.issuer(); named != "" {
		return issuer == named
	}
	return j.keys.discovery.allows(issuer) // until the document has been read
}

// Takes tells whether a token that says p of itself is for j to verify.
func (j *JWT) Takes(p Peek) bool {
	return (j.options.AnyIssuer || p.HasIssuer && j.takesIssuer(p.Issuer)) &&
		slices.Contains(j.algorithms, p.Algorithm) &&
		j.takesType(p.Type, p.Type != "")
}

// CacheKey is the key under which j keeps token. Authenticators that share their
// [CacheKeys] give the same.
func (j *JWT) CacheKey(token string) CacheKey { return j.cacheKeys.Key(token) }

func (j *JWT) keysOfCache() *CacheKeys { return j.cacheKeys }

// Cached gives the identity of a token that was verified before and still holds at
// now, and what the token says of itself. It does no I/O and allocates nothing.
func (j *JWT) Cached(key CacheKey, now time.Time) (*Identity, Peek, bool) {
	v, ok := j.verified.Get(key, now)
	if !ok || now.UnixMicro() < v.notBefore || v.key.withdrawn.Load() || j.keys != nil && !j.keys.serves(now) {
		return nil, Peek{}, false
	}
	j.hits.Add(1)
	return v.identity, v.peek.Value(), true
}

// discreet implements [discreet]: what an identity says of itself was decoded, which makes
// texts of its own, and of the token only its hash stays.
func (j *JWT) discreet() bool { return true }

// Authenticate implements [Authenticator].
func (j *JWT) Authenticate(ctx context.Context, in *Input) Result {
	cacheKey := in.cacheKey(j.cacheKeys, in.Value)
	if identity, _, ok := j.Cached(cacheKey, in.Now); ok {
		return Result{Identity: identity}
	}
	if r, ok := j.refused.Get(cacheKey, in.Now); ok && !r.key.withdrawn.Load() {
		j.hits.Add(1)
		return r.result
	}
	j.misses.Add(1)
	token, reason, err := in.parseJWS(in.Value, j.options.MaxTokenBytes)
	if err != nil {
		return Refuse(reason, err)
	}
	// What costs nothing is checked first: a token that says itself that it is of no
	// use causes neither arithmetic nor a fetch.
	if reason, err := j.checkHeader(token.header); err != nil {
		return Refuse(reason, err)
	}
	window, reason, err := j.checkClaims(token.claims, in.Now)
	if err != nil {
		return Refuse(reason, err)
	}
	key, reason, err := j.findKey(ctx, token.header, in)
	if err != nil {
		result := Refuse(reason, err)
		if reason == policy.ReasonKeysUnavailable {
			result.RetryAfter = j.keys.retryAfter()
		}
		return result
	}
	// Discovery may have named the issuer only now.
	if reason, err := j.checkIssuer(token.claims); err != nil {
		return Refuse(reason, err)
	}
	// What takes less than a millisecond is done at once by the goroutine that reads calls:
	// there are as many of those as connections, and waiting would cost more.
	if !key.algorithm.slow && patience.Reading(ctx) {
		return j.once(cacheKey, in, token, window, key)
	}
	return j.inTurn(ctx, cacheKey, in, token, window, key)
}

// inTurn is once when there is a core for it.
func (j *JWT) inTurn(ctx context.Context, cacheKey CacheKey, in *Input, token *jws, w window, key *verificationKey) Result {
	var result Result
	if err := j.cores.run(ctx, func() { result = j.once(cacheKey, in, token, w, key) }); err != nil {
		return Refuse(policy.ReasonOverloaded, err)
	}
	return result
}

// once verifies a token unless somebody else does.
func (j *JWT) once(cacheKey CacheKey, in *Input, token *jws, w window, key *verificationKey) Result {
	return j.flights.do(cacheKey, func() Result {
		// Whoever was first may have finished between the look above and here.
		if identity, _, ok := j.Cached(cacheKey, in.Now); ok {
			return Result{Identity: identity}
		}
		return j.verify(cacheKey, in, token, w, key)
	})
}

// verify checks the signature, makes the principal, and remembers the outcome.
func (j *JWT) verify(cacheKey CacheKey, in *Input, token *jws, w window, key *verificationKey) Result {
	j.verifications.Add(1)
	result := Result{}
	if err := key.verify(token); err != nil {
		result = Refuse(policy.ReasonSignatureInvalid, err)
	} else {
		result = j.identify(token.claims, w)
	}
	if result.Identity == nil {
		if result.Reason.Outcome() != policy.Unauthenticated {
			return result // a fault of ours says nothing about the token
		}
		j.refused.Put(cacheKey, &refusedToken{result: result, key: key}, in.Now.Add(refusedFor), in.Now)
		return result
	}
	until := in.Now.Add(noExpiry)
	if !w.expires.IsZero() {
		until = w.expires.Add(j.options.Leeway)
	}
	v := verifiedToken{identity: result.Identity, peek: unique.Make(token.peek()), key: key}
	if !w.notBefore.IsZero() {
		v.notBefore = w.notBefore.Add(-j.options.Leeway + time.Microsecond - 1).UnixMicro() // not a moment earlier
	}
	j.verified.Put(cacheKey, v, until, in.Now)
	return result
}

// Identify gives what comes of claims as if a token with them had been verified: require
// and the mapping count, times and audiences do not. It is for tests of a configuration.
func (j *JWT) Identify(claims Claims) Result { return j.identify(claims, window{}) }

// identify makes the principal of verified claims.
func (j *JWT) identify(claims Claims, w window) Result {
	for _, r := range j.options.Require {
		holds, err := r.Expression.Eval(claims)
		if err != nil {
			return Refuse(policy.ReasonRequireFailed, fmt.Errorf("%s: evaluating %s: %w", r.Message, r.Expression, err))
		}
		if holds != true {
			return Refuse(policy.ReasonRequireFailed, errors.New(r.Message))
		}
	}
	principal, reason, err := j.options.Map(claims)
	if err != nil || principal == nil {
		if reason == policy.ReasonNone || reason.Outcome() == policy.Allowed {
			reason = policy.ReasonInternal
		}
		return Refuse(reason, err)
	}
	made := &struct {
		Identity
		principal policy.Principal
	}{Identity{Issued: w.issued}, *principal}
	p := &made.principal
	issuer, _ := claims["iss"].(string)
	p.Issuer, p.Tenant = shared(issuer), shared(p.Tenant)
	p.Tenants, p.Roles, p.Scopes = j.lists.one(p.Tenants), j.lists.one(p.Roles), j.lists.one(p.Scopes)
	p.TokenID, _ = claims["jti"].(string)
	p.Expires = w.expires
	p.Attributes = ownAttributes(p.Attributes)
	together(&p.Subject, &p.Username, &p.TokenID)
	made.Principal = p
	return Result{Identity: &made.Identity}
}

// ownAttributes is a copy whose texts do not keep the claims in memory that they are of.
func ownAttributes(attributes map[string]policy.Attribute) map[string]policy.Attribute {
	if attributes == nil {
		return nil
	}
	own := make(map[string]policy.Attribute, len(attributes))
	for name, a := range attributes {
		if a.Values != nil { // an empty list stays one
			values := make([]string, len(a.Values))
			for i, text := range a.Values {
				values[i] = strings.Clone(text)
			}
			a.Values = values
		}
		own[name] = a
	}
	return own
}

// together makes texts pieces of one, which is less memory than several, and less for the
// garbage collector to look at. Equal neighbours are there once.
func together(texts ...*string) {
	var all []byte
	ends := make([]int, len(texts))
	for i, text := range texts {
		if i == 0 || *text != *texts[i-1] {
			all = append(all, *text...)
		}
		ends[i] = len(all)
	}
	whole := string(all)
	for i, text := range texts {
		*text = whole[ends[i]-len(*text) : ends[i]]
	}
}

// shared gives equal texts as one: the tokens of a hundred thousand people have some
// tenants, and a few issuers, roles and scopes, between them.
func shared(text string) string { return unique.Make(text).Value() }

func (j *JWT) findKey(ctx context.Context, h header, in *Input) (*verificationKey, policy.Reason, error) {
	if j.keys == nil {
		if key := j.secrets[h.algorithm]; key != nil {
			return key, policy.ReasonNone, nil
		}
		return nil, policy.ReasonAlgorithmRefused, errAlgorithm
	}
	return j.keys.find(ctx, h, in.Now, in.Local)
}

var (
	errAlgorithm = errors.New("the token's alg is not among the algorithms")
	errType      = errors.New("the token's typ is not among the types")
	errNoKeyID   = errors.New("the token has no kid, and one is required")
)

func (j *JWT) checkHeader(h header) (policy.Reason, error) {
	switch {
	case !slices.Contains(j.algorithms, h.algorithm):
		return policy.ReasonAlgorithmRefused, errAlgorithm
	case !j.takesType(h.typ, h.hasType):
		return policy.ReasonTypeRefused, errType
	case j.options.RequireKeyID && !h.hasKeyID:
		return policy.ReasonUnknownKey, errNoKeyID
	}
	return policy.ReasonNone, nil
}

// A window is when a token holds; zero times bound nothing.
type window struct{ notBefore, expires, issued time.Time }

// checkClaims checks the registered claims (RFC 7519 §4.1): first their form, then
// whether they hold at now.
func (j *JWT) checkClaims(claims Claims, now time.Time) (window, policy.Reason, error) {
	for _, name := range [...]string{"iss", "sub", "jti"} {
		if _, _, err := claims.text(name); err != nil {
			return window{}, policy.ReasonClaimType, err
		}
	}
	audiences, err := claims.audiences()
	if err != nil {
		return window{}, policy.ReasonClaimType, err
	}
	if reason, err := j.checkIssuer(claims); err != nil {
		return window{}, reason, err
	}
	if !j.takesAudiences(audiences) {
		return window{}, policy.ReasonAudienceMismatch, errors.New("the token is for another audience")
	}
	return j.checkTimes(claims, now)
}

func (j *JWT) checkIssuer(claims Claims) (policy.Reason, error) {
	if j.options.AnyIssuer {
		return policy.ReasonNone, nil
	}
	if issuer, _ := claims["iss"].(string); !j.takesIssuer(issuer) {
		return policy.ReasonIssuerMismatch, errors.New("the token's issuer is not the one configured")
	}
	return policy.ReasonNone, nil
}

func (j *JWT) takesAudiences(audiences []string) bool {
	if j.options.AnyAudience {
		return true
	}
	held := func(wanted string) bool { return slices.Contains(audiences, wanted) }
	if !j.options.AllAudiences {
		return slices.ContainsFunc(j.options.Audiences, held)
	}
	for _, wanted := range j.options.Audiences {
		if !held(wanted) {
			return false
		}
	}
	return true
}

func (j *JWT) checkTimes(claims Claims, now time.Time) (window, policy.Reason, error) {
	expires, hasExpires, err := claims.date("exp")
	if err != nil {
		return window{}, policy.ReasonClaimType, err
	}
	notBefore, hasNotBefore, err := claims.date("nbf")
	if err != nil {
		return window{}, policy.ReasonClaimType, err
	}
	issued, hasIssued, err := claims.date("iat")
	if err != nil {
		return window{}, policy.ReasonClaimType, err
	}
	w := window{notBefore: notBefore, expires: expires, issued: issued}
	leeway, longest := j.options.Leeway, j.options.MaxLifetime
	switch {
	case !hasExpires && !j.options.ExpiryOptional:
		return w, policy.ReasonExpiryMissing, errors.New("the token has no exp")
	case hasExpires && !now.Before(expires.Add(leeway)):
		return w, policy.ReasonExpired, fmt.Errorf("the token expired at %s", expires.UTC().Format(time.RFC3339))
	case hasNotBefore && now.Add(leeway).Before(notBefore):
		return w, policy.ReasonNotYetValid, fmt.Errorf("the token is valid from %s", notBefore.UTC().Format(time.RFC3339))
	case hasIssued && now.Add(leeway).Before(issued):
		return w, policy.ReasonIssuedInFuture, fmt.Errorf("the token was issued at %s, which is to come", issued.UTC().Format(time.RFC3339))
	case longest == 0:
		return w, policy.ReasonNone, nil
	case !hasIssued:
		return w, policy.ReasonClaimMissing, errors.New("the token has no iat, which the longest lifetime is counted from")
	case !hasExpires || expires.Sub(issued) > longest:
		return w, policy.ReasonLifetimeTooLong, fmt.Errorf("the token lives longer than %s", longest)
	}
	return w, policy.ReasonNone, nil
}
